"""Sentences with two entities and their relation: the format of SemEval-2010 task 8."""

import dataclasses
import re

import numpy as np

from bert_jax.tasks.classification.reader import TextExample
from data_pipeline.errors import DataError
from data_pipeline.finetune.examples import Examples
from data_pipeline.finetune.tables import read_lines, split_source

_TAG = re.compile(r"(</?e[12]>)")
_TAGS = ("<e1>", "</e1>", "<e2>", "</e2>")
_COMMENT = re.compile(r"Comment\s*:")  # a relation may be called Comment, too


@dataclasses.dataclass(frozen=True)
class RelationExample(TextExample):
    """A sentence, `first`, and the relation of two entities in it, `label`.

    Attributes:
      number: its identifier in the file.
      spans: characters of entity 1 and entity 2; the end is exclusive.
      label_place: where the relation is, for messages.
    """

    number: str
    spans: tuple[tuple[int, int], tuple[int, int]]
    label_place: str


def read_relations(source: str) -> Examples[RelationExample]:
    """The sentences of a file; "FILE[A:B]" takes some of them, as Python slices a list.

    Each is a line `number, tab, "sentence"` with <e1>, </e1>, <e2> and </e2> in it; the relation is
    in the next line, or not known. Empty lines and lines that begin with "Comment:" are ignored.
    """
    examples: list[RelationExample] = []
    takes_label = False
    source, chosen = split_source(source)
    for line_number, line in enumerate(read_lines(source), 1):
        place = f"{source}:{line_number}"
        if not line.strip() or _COMMENT.match(line):
            takes_label = False
        elif "\t" in line:
            number, _, sentence = line.partition("\t")
            sentence = sentence.strip()
            if len(sentence) > 1 and sentence[0] == sentence[-1] == '"':
                sentence = sentence[1:-1]
            text, spans = marked_entities(sentence, place)
            examples.append(RelationExample(place, text, None, None, number, spans, place))
            takes_label = True
        elif takes_label:
            examples[-1] = dataclasses.replace(examples[-1], label=line.strip(), label_place=place)
            takes_label = False
        else:
            raise DataError(
                f"{place}: {line[:40]!r} is neither number, tab and sentence, nor the relation of "
                "the line before, nor a comment"
            )
    return Examples(examples[chosen], [])


def marked_entities(marked: str, place: str) -> tuple[str, tuple[tuple[int, int], tuple[int, int]]]:
    """The text without <e1>, </e1>, <e2> and </e2>, and the `spans` that they mark.

    >>> marked_entities("The <e1>author</e1> of a <e2>keygen</e2>.", "")
    ('The author of a keygen.', ((4, 10), (16, 22)))
    """
    parts = _TAG.split(marked)
    texts, tags = parts[::2], parts[1::2]
    if sorted(tags) != sorted(_TAGS):
        raise DataError(
            f"{place}: the marks of the entities are {' '.join(tags) or 'missing'}; there must be "
            "<e1> </e1> <e2> </e2>, each once"
        )
    text = "".join(texts)
    at = dict(zip(tags, np.cumsum([len(part) for part in texts]).tolist(), strict=False))
    first, second = (_trimmed(text, at[f"<e{n}>"], at[f"</e{n}>"]) for n in (1, 2))
    if first[0] >= first[1] or second[0] >= second[1]:
        raise DataError(f"{place}: an entity is empty, or ends before it begins")
    if first[0] < second[1] and second[0] < first[1]:
        raise DataError(f"{place}: the two entities overlap; they must be separate")
    return text, (first, second)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    inside = text[start:end]
    return start + len(inside) - len(inside.lstrip()), end - len(inside) + len(inside.rstrip())
