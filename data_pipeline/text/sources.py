"""Where text comes from: files, folders, patterns and TensorFlow Datasets, read in bounded chunks.

A source yields `Chunk`s of about a megabyte, so a document may be larger than memory. Where they
are cut depends on the source alone, so every run over the same files sees the same chunks.
"""

import dataclasses
import glob
import gzip
import itertools
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from data_pipeline import tfds
from data_pipeline.errors import DataError
from data_pipeline.files import parse_json
from data_pipeline.text.clean import clean_text

CHUNK_BYTES = 1 << 20
EMBEDDED = "embedded"
JSON_SUFFIXES = (".jsonl", ".json", ".ndjson")
FOLDER_SUFFIXES = (".txt", *JSON_SUFFIXES)
_BOM = b"\xef\xbb\xbf"


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A piece of a source, in UTF-8, that ends with a line.

    It is text where a blank line ends a document, or JSON Lines where each record is a document.
    """

    data: bytes
    text_field: str | None  # the field of the JSON records that has the text; None for plain text
    ends_document: bool  # else the last document continues in the next chunk; true for JSON


class Source(Protocol):
    """One place that text comes from."""

    name: str  # for error messages
    identity: list[Any]  # changes when the content changes: name, bytes, time of modification

    def chunks(self) -> Iterator[Chunk]:
        """The whole source from its beginning."""
        ...


def chunk_documents(chunk: Chunk) -> list[list[str]]:
    """The paragraphs (lines) of each document of a chunk, as they are in the source.

    Every blank line starts another document, so a list may be empty. The first document continues
    the last one of the previous chunk, unless that chunk ended it.
    """
    if chunk.text_field is not None:
        records = [json.loads(line) for line in chunk.data.split(b"\n") if line.strip()]
        return [_lines(record[chunk.text_field]) for record in records]
    documents: list[list[str]] = [[]]
    for line in _lines(chunk.data.decode()):
        if not line or line.isspace():
            documents.append([])
        else:
            documents[-1].append(line)
    return documents


def _lines(text: str) -> list[str]:
    # splitlines() would also end lines at a form feed or U+2028 inside a paragraph.
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


class FileSource:
    """A plain text or JSON Lines file, compressed with gzip if its name ends in .gz."""

    def __init__(self, path: Path, text_field: str):
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from None
        self.path = path
        self.name = str(path)
        self.bytes = status.st_size
        self.identity = [path.name, status.st_size, status.st_mtime_ns]
        json_lines = path.name.lower().removesuffix(".gz").endswith(JSON_SUFFIXES)
        self.text_field = text_field if json_lines else None

    def chunks(self) -> Iterator[Chunk]:
        opened = gzip.open if self.path.name.lower().endswith(".gz") else open
        with opened(self.path, "rb") as file:
            rest = file.read(len(_BOM)).removeprefix(_BOM)
            while block := file.read(CHUNK_BYTES):
                data = rest + block
                cut = self._cut(data)
                rest = data[cut:]
                if cut:
                    yield Chunk(data[:cut], self.text_field, self.text_field is not None)
        yield Chunk(rest, self.text_field, True)

    def _cut(self, data: bytes) -> int:
        """How many bytes of `data` to pass on now: up to the end of its last line.

        A line of plain text longer than a chunk is cut at a space or, if it has none, between two
        characters; a JSON record stays whole.
        """
        cut = data.rfind(b"\n") + 1
        if cut or self.text_field is not None or len(data) < CHUNK_BYTES:
            return cut
        cut = data.rfind(b" ") + 1
        if not cut:
            cut = len(data)
            while cut > 1 and data[cut - 1] & 0xC0 == 0x80:  # inside a character
                cut -= 1
            cut -= 1
        return cut

    def check(self) -> Iterator[int]:
        """Reads the whole file and refuses what could not be used; yields numbers of bytes read."""
        empty = True
        offset = line = 0
        try:
            for chunk in self.chunks():
                data = chunk.data
                try:
                    texts: Iterable[str] = [data.decode()]
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"{self.name} is not UTF-8 text: see byte {offset + error.start:,} "
                        f"(0x{data[error.start]:02x}); convert it with: iconv -f ENCODING -t UTF-8"
                    ) from None
                if self.text_field is not None:
                    texts = self._records(data, line)
                for text in texts:
                    empty = empty and not clean_text(text)
                line += data.count(b"\n")
                offset += len(data)
                yield len(data)
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"cannot read {self.name}: {reason}") from None
        if empty:
            raise DataError(f"{self.name} is empty or holds no text; remove it from the input")

    def _records(self, data: bytes, lines_before: int) -> Iterator[str]:
        """The texts of JSON Lines, checked one by one."""
        for number, record in enumerate(data.split(b"\n"), lines_before + 1):
            if not record.strip():
                continue
            place = f"{self.name}, line {number:,}"
            value = parse_json(
                record.decode("utf-8-sig"), place, "each line must hold one JSON object"
            )
            if not isinstance(value, dict) or not isinstance(value.get(self.text_field), str):
                fields = ", ".join(value) if isinstance(value, dict) else type(value).__name__
                raise DataError(
                    f"{place} has no text in the field {self.text_field!r} (it holds: {fields}); "
                    "name the field with --text-field"
                )
            yield value[self.text_field]


class TfdsSource:
    """A data set, such as "tfds:wikipedia/20230601.en", streamed in a fixed order."""

    def __init__(self, name: str, text_field: str):
        self.name = name
        self._dataset = tfds.Dataset(name)
        features = self._dataset.info.features
        if text_field not in features:
            raise DataError(
                f"{name} has no feature {text_field!r} (it has: {', '.join(features)}); name it "
                "with --text-field"
            )
        feature = features[text_field]
        if feature.shape != () or not np.dtype(feature.np_dtype).hasobject:
            raise DataError(
                f"the feature {text_field!r} of {name} is a {type(feature).__name__}, not text; "
                "name another with --text-field"
            )
        self._text_field = text_field
        self.identity = [self._dataset.info.full_name]  # with its version

    def download(self) -> None:
        self._dataset.download("train")

    def chunks(self) -> Iterator[Chunk]:
        import tensorflow_datasets

        records = self._dataset.records(
            "train",
            shuffle_files=False,
            read_config=tensorflow_datasets.ReadConfig(
                interleave_cycle_length=1, try_autocache=False
            ),
            decoders=tensorflow_datasets.decode.PartialDecoding({self._text_field: True}),
        )
        texts = (record[self._text_field] for record in records)
        return text_chunks(itertools.starmap(self._decoded, enumerate(texts, 1)))

    def _decoded(self, number: int, record: bytes) -> str:
        try:
            return record.decode()
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self.name}, record {number:,} is not UTF-8 text: see byte {error.start:,} "
                f"(0x{record[error.start]:02x}); use another dataset or another --text-field"
            ) from None


def text_chunks(documents: Iterable[str]) -> Iterator[Chunk]:
    """Chunks of whole documents; blank lines inside a document do not end it."""
    pending: list[bytes] = []
    size = 0
    for document in documents:
        text = re.sub(r"\n\s*\n", "\n", document.replace("\r", "\n").strip()) + "\n\n"
        pending.append(text.encode(errors="replace"))
        size += len(pending[-1])
        if size >= CHUNK_BYTES:
            yield Chunk(b"".join(pending), None, True)
            pending, size = [], 0
    if pending:
        yield Chunk(b"".join(pending), None, True)


def find_files(pattern: str) -> list[Path]:
    """The files that one value of --input names, sorted: a file, a folder's tree, or a pattern."""
    # To os.path, a name that is too long does not exist.
    is_folder = os.path.isdir(pattern)
    exists = is_folder or os.path.isfile(pattern)
    found = [
        file
        for match in map(Path, [pattern] if exists else sorted(glob.glob(pattern, recursive=True)))
        for file in (_files_below(match) if match.is_dir() else [match])
    ]
    if not found:
        suffixes = " ".join(FOLDER_SUFFIXES)
        reason = f"holds no {suffixes} file (.gz or not)" if is_folder else "matches no file"
        raise DataError(
            f"--input {pattern} {reason}; give files, folders, patterns, {EMBEDDED} or "
            f"{tfds.PREFIX}NAME"
        )
    return found


def _files_below(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.name.lower().removesuffix(".gz").endswith(FOLDER_SUFFIXES)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
