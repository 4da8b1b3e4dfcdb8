"""The corpus that every installation has: the documentation of the user's own Python.

The documents are the topics of `pydoc` and the docstrings of the standard library and of all
installed packages, one document per module. Files are read with `ast`, never imported.
"""

import ast
import gc
import inspect
import itertools
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from data_pipeline.text.clean import clean_text
from data_pipeline.text.sentences import splitter
from data_pipeline.text.sources import Chunk, FileSource

MapFiles = Callable[[Callable[[Path], list[str]], list[Path]], Iterable[list[str]]]

MINIMUM_SENTENCES = 4

# Tests and demonstrations have little prose; vendored and generated modules repeat others.
_SKIPPED_FOLDERS = {
    *("_vendor", "_vendored", "pip", "site-packages", "vendor"),
    *("_api", "mypyc", "raw_ops"),
    *("__pycache__", "ensurepip", "idlelib", "lib2to3", "turtledemo"),
    *("test", "testdata", "testing", "tests"),
}
_SKIPPED_FILES = re.compile(r"test_.*|.*_test|.*_tests|conftest|.*_pb2(_grpc)?|pydoc_data")
# Parsing takes most of the time, so files with little documentation for their size (tables,
# generated code) are not worth it.
_MAX_BYTES_PER_DOCSTRING = 6000

_MARKUP = [
    (re.compile(r"\[([^\]]+)\]\(\S+\)"), r"\1"),  # Markdown links
    (re.compile(r"`([^`<]+?)\s*<[^`>]*>`_*"), r"\1"),  # reStructuredText links
    (re.compile(r":(?:[\w.+-]+:)+`~?!?([^`]*)`"), r"\1"),  # roles such as :class:`~a.B`
    (re.compile(r"`+([^`]*)`+_{0,2}"), r"\1"),
    (re.compile(r"\*\*([^*]+)\*\*|(?<!\w)\*([^*\s][^*]*)\*(?!\w)"), r"\1\2"),
    (re.compile(r"\s\[(?:\d+|[A-Z]\w*\d+)\]_"), ""),  # citations
    (re.compile(r"\|(\w+)\|"), r"\1"),  # substitutions
]
_ADORNMENT = re.compile(r"""\s*([=\-~^*#+.`'"_:])\1{2,}\s*$""")
_BULLET = re.compile(r"^\s*(?:[-*+•]|\(?\d{1,2}[.)]|\(?[a-z]\))\s+")
# "x : array_like, optional", ":param x: The array.", "x (int): The array.", "x: The array."
_PARAMETER_TYPE = re.compile(r"\s*\*{0,2}[\w.`]+(?:, ?\*{0,2}[\w.`]+)* ?: ?\S.*$")
_PARAMETER = re.compile(
    r"^\s*(?::\w+(?: [\w.*\\]+)*:|`{0,2}\*{0,2}[\w.]+`{0,2}(?: ?\([^)]*\))?:)\s+(?=\S)"
)
_PROSE_START = re.compile(r"[A-Za-z\"'(]")
_PROSE_END = re.compile(r"""[.!?]["')\]]*$""")
_NOT_WORDS = re.compile(r"[^A-Za-z\s,.;:'\"()!?-]")
_CODE = re.compile(
    r">>>|^\s*(?:\.\. |\.\.\. |\$ |@|#|import |from \S+ import |def |class |return )"
)
_WORD = re.compile(r"[A-Za-z]{2,}")


def embedded_documents(map_files: MapFiles = map) -> Iterator[str]:
    """The documents, one paragraph per line, in a fixed order: topics by name, modules by path.

    Paragraphs of an earlier document are left out, and so are documents of fewer than
    `MINIMUM_SENTENCES` sentences. `map_files` is an ordered map such as a process pool's.
    """
    split = splitter("en")
    seen: set[str] = set()
    modules = map_files(module_prose, list(python_files()))
    for paragraphs in itertools.chain(_topics(), modules):
        new = [paragraph for paragraph in dict.fromkeys(paragraphs) if paragraph not in seen]
        seen.update(new)
        if sum(len(split(paragraph)) for paragraph in new) >= MINIMUM_SENTENCES:
            yield "\n".join(new)


def python_files() -> Iterator[Path]:
    """The modules of the running interpreter's standard library and packages, sorted by path."""
    folders = dict.fromkeys(sysconfig.get_path(key) for key in ("stdlib", "purelib", "platlib"))
    for root in folders:
        for folder, inner, names in os.walk(root):
            inner[:] = sorted(
                name for name in inner if name not in _SKIPPED_FOLDERS and name.isidentifier()
            )
            for name in sorted(names):
                if name.endswith(".py") and not _SKIPPED_FILES.fullmatch(name[:-3]):
                    yield Path(folder, name)


def module_prose(path: Path) -> list[str]:
    """The prose in a module's docstrings, in the order of the source; none if it is not Python."""
    collecting = gc.isenabled()
    gc.disable()  # a syntax tree has no cycles; searching for them takes a third of the time
    try:
        source = path.read_bytes()
        quotes = source.count(b'"""') + source.count(b"'''")
        if len(source) > _MAX_BYTES_PER_DOCSTRING * (quotes // 2):
            return []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []
    finally:
        if collecting:
            gc.enable()
    return [paragraph for text in _docstrings(tree) for paragraph in prose(text)]


def _docstrings(node: ast.AST) -> Iterator[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(node, documented) and (text := ast.get_docstring(node, clean=True)):
        yield text
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return  # nothing inside a function is public
    for inner in getattr(node, "body", ()):
        if isinstance(inner, (*documented, ast.If, ast.Try)):
            yield from _docstrings(inner)


def _topics() -> Iterator[list[str]]:
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield prose(inspect.cleandoc(topics[name]))


def prose(text: str) -> list[str]:
    """The paragraphs of a docstring that are English prose, their lines joined, without markup.

    Examples, code, tables, headings, signatures and the types of parameters are left out;
    descriptions of parameters stay.
    """
    paragraphs = (_plain(item) for block in _blocks(text) for item in _items(block))
    return [paragraph for paragraph in paragraphs if _is_prose(paragraph)]


def _blocks(text: str) -> Iterator[list[str]]:
    """Runs of lines between blank lines, without code fences and literal blocks."""
    fenced = False
    literal: int | None = None  # the indentation of the line that ended with "::"
    block: list[str] = []
    for line in (*text.expandtabs().split("\n"), ""):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced and line.strip():
            if literal is not None and _indentation(line) > literal:
                continue
            literal = _indentation(line) if line.rstrip().endswith("::") else None
            block.append(line.rstrip())
            continue
        if block:
            yield block
        block = []


def _items(block: list[str]) -> Iterator[str]:
    """The paragraphs of a block: each list item and each description of a parameter is one."""
    if any(_CODE.match(line) for line in block):
        return
    lines: list[str] = []
    for index, line in enumerate(block):
        following = block[index + 1] if index + 1 < len(block) else ""
        deeper = _indentation(following) > _indentation(line) and following != ""
        heading = _ADORNMENT.match(following) or _ADORNMENT.match(line)
        type_line = deeper and _PARAMETER_TYPE.match(line) and " : " in line
        starts = _BULLET.match(line) or _PARAMETER.match(line)
        # The lines before may also be an indented description that ends here.
        ends = lines and _indentation(line) < _indentation(block[index - 1])
        if heading or type_line or starts or ends:
            yield " ".join(lines)
            lines = []
        if heading or type_line:
            continue
        lines.append(_PARAMETER.sub("", _BULLET.sub("", line, count=1), count=1).strip())
    yield " ".join(lines)


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())


def _plain(text: str) -> str:
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return clean_text(text)


def _is_prose(text: str) -> bool:
    """Whether a paragraph reads like sentences: mostly words, with an end."""
    return bool(
        len(text) >= 25
        and _PROSE_START.match(text)
        and _PROSE_END.search(text)
        and len(_WORD.findall(text)) >= 5
        and len(_NOT_WORDS.findall(text)) <= 0.06 * len(text)
        and text.count("=") <= 2
        and "|" not in text
    )


class EmbeddedSource:
    """The embedded corpus as a `Source`, extracted once into a text file at `path`."""

    name = "embedded"

    def __init__(self, path: Path):
        self.path = path
        self.identity = ["embedded", sys.version]

    def extract(self, map_files: MapFiles = map) -> None:
        """Writes the text: one paragraph per line, a blank line after each document."""
        aside = self.path.with_name(self.path.name + ".tmp")
        with open(aside, "w", encoding="utf-8") as file:
            for document in embedded_documents(map_files):
                file.write(document + "\n\n")
        aside.rename(self.path)

    def chunks(self) -> Iterator[Chunk]:
        return FileSource(self.path, "text").chunks()
