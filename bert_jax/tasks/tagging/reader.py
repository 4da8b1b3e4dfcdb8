"""Texts with entities: CoNLL columns, one word or character per line, and JSON with spans."""

import dataclasses
import functools
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from bert_jax.tasks.tagging.tags import Span, find_scheme, spans_of_tags, split_tag, tags_of_spans
from data_pipeline.errors import DataError
from data_pipeline.finetune.examples import Examples
from data_pipeline.finetune.tables import (
    Row,
    counted,
    filled,
    plain_text,
    read_lines,
    read_rows,
    split_source,
    suffix_of,
)
from data_pipeline.tokenization.wordpiece import split_words

# What gets a tag: a word, a character other than white space, or a piece of the tokenizer.
Unit = Literal["word", "character", "piece"]

_DOCUMENT_START = "-DOCSTART-"  # CoNLL-2003: a line before each document


class Entity(NamedTuple):
    """The characters `start` to `end` (exclusive) of a text; `place` is for messages."""

    type: str
    start: int
    end: int
    place: str


@dataclasses.dataclass(frozen=True)
class TaggedText:
    """A text, unchanged, and the entities in it.

    Attributes:
      place: where it is, for messages and predictions.
      words: (first character, end) of each word; None where the tokenizer's pieces get the tags.
      entities: by their start; None where they are not known.
    """

    place: str
    text: str
    words: tuple[tuple[int, int], ...] | None
    entities: tuple[Entity, ...] | None


def read_tagged_texts(source: str, unit: Unit) -> Examples[TaggedText]:
    """The texts of a file: JSON if its name ends in .json or .jsonl, else columns.

    "FILE[A:B]" takes some of the texts, as Python slices a list.
    """
    if suffix_of(source) in (".json", ".jsonl"):
        return read_spans(source, unit)
    return read_columns(source, "" if unit == "character" else " ")


def read_columns(source: str, joiner: str) -> Examples[TaggedText]:
    """CoNLL columns: a word per line, its tag in the last column, an empty line after a sentence.

    Tabs separate columns, or spaces if the first line has no tab. A file of one column has words to
    tag. The tags may be BIO, IOB1 or BIOES (see `tags.py`). In the text, `joiner` (a space or
    nothing) separates the words.
    """
    sentences: list[tuple[int, list[list[str]]]] = []  # line of the first word, cells of each word
    part, first_line, width = re.compile(r"[ \t]+"), 0, 0
    is_open = False
    source, chosen = split_source(source)
    for number, line in enumerate(read_lines(source), 1):
        stripped = line.strip(" \t")
        if not stripped or stripped.startswith(_DOCUMENT_START):
            is_open = False
            continue
        if not width and "\t" in line:
            part = re.compile("\t")
        cells = part.split(line if part.pattern == "\t" else stripped)
        cells[-1] = cells[-1].strip(" ")
        if not width:
            first_line, width = number, len(cells)
        if len(cells) != width:
            raise DataError(
                f"{source}:{number} has {counted(len(cells))}, not the {width} of line "
                f"{first_line}; each line holds a word and, in its last column, its tag"
            )
        if not cells[0].strip(" "):
            raise DataError(f"{source}:{number} has no word in its first column")
        if width > 1 and split_tag(cells[-1]) is None:
            raise DataError(
                f"{source}:{number}: {cells[-1]!r} in the last column is not a tag; a tag is O, or "
                "B-, I-, E- or S- and a type, such as B-PER"
            )
        if not is_open:
            sentences.append((number, []))
            is_open = True
        sentences[-1][1].append(cells)
    tagged = width > 1
    note = "no tags"
    if tagged:
        tags = [(line, [cells[-1] for cells in sentence]) for line, sentence in sentences]
        note = f"tags in {find_scheme(source, tags)}"
    rows = [_sentence(source, *sentence, joiner, tagged) for sentence in sentences[chosen]]
    return Examples(rows, [], note)


def _sentence(
    source: str, line: int, cells: list[list[str]], joiner: str, tagged: bool
) -> TaggedText:
    words, start = [], 0
    for word, *_ in cells:
        words.append((start, start + len(word)))
        start += len(word) + len(joiner)
    entities = None
    if tagged:
        entities = tuple(
            Entity(name, words[first][0], words[end - 1][1], f"{source}:{line + first}")
            for name, first, end in spans_of_tags([row[-1] for row in cells])
        )
    text = joiner.join(row[0] for row in cells)
    return TaggedText(f"{source}:{line}", text, tuple(words), entities)


def read_spans(source: str, unit: Unit) -> Examples[TaggedText]:
    """CLUENER's JSON (arXiv:2001.04351), an object per line, with a "text" and perhaps a "label".

    The label has the first and the last character of each entity by its type and its text, as in
    {"name": {"叶老桂": [[9, 11]]}}.
    """
    rows = []
    for row in read_rows(source):
        text = filled(plain_text(row["text"], row.place, "text"), row.place, "text")
        rows.append(TaggedText(row.place, text, words_of(text, unit), _spans(row, text)))
    nested = sum(len(row.entities) - len(apart(row.entities)) for row in rows if row.entities)
    note = f"entities that overlap longer ones, so tags cannot express them: {nested:,}"
    return Examples(rows, [], note if nested else "")


def _spans(row: Row, text: str) -> tuple[Entity, ...] | None:
    label: Any = row.values.get("label")
    if label is None:
        return None
    found = []
    try:
        for name, mentions in label.items():
            if not name.strip():
                raise DataError(f"{row.place}: its label has an entity type without a name")
            for mention, spans in mentions.items():
                for first, last in spans:
                    if not 0 <= first <= last < len(text) or text[first : last + 1] != mention:
                        raise DataError(
                            f"{row.place}: {name} {mention!r} is not the text at characters "
                            f"{first} to {last}: {text[max(first, 0) : last + 1]!r}"
                        )
                    found.append(Entity(name, first, last + 1, row.place))
    except (AttributeError, TypeError, ValueError):
        raise DataError(
            f"{row.place}: its label must give the first and last character by type and text, as "
            f'in {{"name": {{"叶老桂": [[9, 11]]}}}}, not {str(label)[:60]!r}'
        ) from None
    return tuple(sorted(found, key=lambda entity: (entity.start, -entity.end)))


def words_of(text: str, unit: Unit) -> tuple[tuple[int, int], ...] | None:
    """The units of a text that is not split into words; see `TaggedText.words`.

    Words end at white space; punctuation marks and CJK characters are words of their own, as in
    BERT. Control characters end no word, even those that Python counts as white space.

    >>> words_of("Ms. Haag", "word")
    ((0, 2), (2, 3), (4, 8))
    """
    if unit == "piece":
        return None
    spans: list[tuple[int, int]] = []
    goes_on = False
    for index, character in enumerate(text):
        parts = _parts_around(character)
        if parts == 1 and goes_on and unit == "word":
            spans[-1] = (spans[-1][0], index + 1)
        elif not character.isspace():
            spans.append((index, index + 1))
        goes_on = parts == 1 and (goes_on or not character.isspace())
    return tuple(spans)


@functools.cache
def _parts_around(character: str) -> int:
    """1 for a character within words, 2 for white space, 3 for a word of its own."""
    return len(split_words(f"a{character}a", lowercase=False))


def apart(entities: Iterable[Entity]) -> list[Entity]:
    """The entities without those that overlap a longer one, or an earlier one as long."""
    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda entity: (entity.start - entity.end, entity.start)):
        if all(entity.end <= other.start or other.end <= entity.start for other in kept):
            kept.append(entity)
    return sorted(kept, key=lambda entity: entity.start)


def tags_at(starts: Sequence[int] | np.ndarray, entities: Iterable[Entity]) -> list[str]:
    """The BIO tags of units, which belong to the entity in which they begin.

    `starts` are the first characters of the units, increasing. Of entities that overlap the longest
    counts.
    """
    spans = []
    for entity in apart(entities):
        first, end = np.searchsorted(starts, [entity.start, entity.end]).tolist()
        if first < end:
            spans.append(Span(entity.type, first, end))
    return tags_of_spans(spans, len(starts))


def unit_starts(example: TaggedText) -> list[int]:
    """The first character of each word, or every character where the units are pieces."""
    if example.words is None:
        return list(range(len(example.text)))
    return [start for start, _ in example.words]
