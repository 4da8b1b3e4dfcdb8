"""Sentences with two entities and their relation: the format of SemEval-2010 task 8."""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from bert_jax.tasks.classification.reader import TextExample
from data_pipeline.errors import DataError
from data_pipeline.finetune.features import (
    Feature,
    Features,
    encode_all,
    pair_sizes,
    token_arrays,
)
from data_pipeline.finetune.tables import read_lines, split_source
from data_pipeline.tokenization.interface import Tokenizer

# Before and behind the first entity, and the second: R-BERT, section 3.2 (arXiv:1905.08284).
MARKERS = ("$", "#")
SHORTEST_INPUT = 16  # tokens: [CLS], [SEP], four markers and something of the entities

_TAG = re.compile(r"(</?e[12]>)")
_TAGS = ("<e1>", "</e1>", "<e2>", "</e2>")
_COMMENT = re.compile(r"Comment\s*:")  # a relation may be called Comment, too


@dataclasses.dataclass(frozen=True)
class RelationExample(TextExample):
    """A sentence, `first`, and the relation of two entities in it, `label`.

    Attributes:
      number: its identifier in the file.
      spans: first character and the one after the last of entity 1 and of entity 2.
      label_place: where the relation stands, for messages.
    """

    number: str
    spans: tuple[tuple[int, int], tuple[int, int]]
    label_place: str


def read_relations(source: str) -> list[RelationExample]:
    """The sentences of a file.

    Each is a line `number, tab, "sentence"` with <e1>, </e1>, <e2> and </e2> in it; the relation is
    in the next line, or is not known. Empty lines and those that begin with "Comment:" say nothing.
    "FILE[A:B]" takes some of the sentences, as Python slices a list.

    Raises:
      DataError: a mark of an entity is missing or at a wrong place, or a line is none of these.
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
            text, spans = marked_entities(_without_quotes(sentence), place)
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
    return examples[chosen]


def _without_quotes(sentence: str) -> str:
    sentence = sentence.strip()
    quoted = len(sentence) > 1 and sentence[0] == sentence[-1] == '"'
    return sentence[1:-1] if quoted else sentence


def marked_entities(marked: str, place: str) -> tuple[str, tuple[tuple[int, int], tuple[int, int]]]:
    """The text without the marks of its entities, and the entities.

    Args:
      marked: text with <e1>, </e1>, <e2> and </e2>.
      place: for messages.

    Returns:
      (text, first character and the one after the last of entity 1 and of entity 2).

    Raises:
      DataError: not each mark occurs once, an entity is empty, or both overlap.

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
        raise DataError(f"{place}: an entity is empty, or its end stands before its beginning")
    if first[0] < second[1] and second[0] < first[1]:
        raise DataError(f"{place}: the two entities overlap; each must stand apart")
    return text, (first, second)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    inside = text[start:end]
    return start + len(inside) - len(inside.lstrip()), end - len(inside) + len(inside.rstrip())


def relation_features(
    examples: Sequence[RelationExample],
    tokenizer: Tokenizer,
    max_length: int,
    labels: Sequence[str],
    class_weights: Sequence[float] | None = None,
) -> Features:
    """[CLS] ... $ entity $ ... # entity # ... [SEP], one feature for each example.

    Too long a sentence keeps what is nearest to the entities: first the text outside them goes,
    from its ends, then the middle of the text between them, then the ends of the entities.

    Each feature has, besides the token arrays, `labels`, int32 [], `weights`, float32 [], and
    `entity_positions`, int32 [2]: the positions of the first "$" and the first "#".

    Args:
      examples: with relations or without.
      tokenizer: the model's.
      max_length: tokens of a feature.
      labels: the relations.
      class_weights: weight of each relation in the loss; None weighs all the same.

    Raises:
      DataError: there is no room for entities, or the vocabulary lacks the marks.
    """
    if max_length < SHORTEST_INPUT:
        raise DataError(
            f"sequence_length {max_length} has no room for two entities; give at least "
            f"{SHORTEST_INPUT}"
        )
    marks = _marks(tokenizer)
    number = {label: index for index, label in enumerate(labels)}
    weight = class_weights or [1.0] * len(labels)
    texts = []
    for example in examples:
        (start, end), (next_start, next_end) = sorted(example.spans)
        edges = (0, start, end, next_start, next_end, len(example.first))
        texts += [example.first[edges[i] : edges[i + 1]] for i in range(5)]
    ids = encode_all(tokenizer, texts)
    cls, sep, unk = (tokenizer.special_ids[key] for key in ("cls", "sep", "unk"))
    rows, cut = [], 0
    for index, example in enumerate(examples):
        left, entity, between, other, right = (part.tolist() for part in ids[5 * index :][:5])
        parts = (left, entity or [unk], between, other or [unk], right)
        kept = _fitted(parts, max_length - 6)
        cut += sum(map(len, kept)) < sum(map(len, parts))
        left, entity, between, other, right = kept
        in_order = example.spans[0] < example.spans[1]
        mark, other_mark = marks if in_order else marks[::-1]
        tokens = [cls, *left, mark, *entity, mark, *between]
        positions = [1 + len(left), len(tokens)]
        tokens += [other_mark, *other, other_mark, *right, sep]
        values = {
            "labels": np.int32(number.get(example.label or "", 0)),
            "weights": np.float32(
                weight[number[example.label]] if example.label in number else 0.0
            ),
            "entity_positions": np.array(positions if in_order else positions[::-1], np.int32),
        }
        arrays = {name: np.asarray(value) for name, value in values.items()}
        rows.append(Feature(token_arrays(tokens, [0] * len(tokens)), arrays, index))
    return Features(rows, cut)


def _marks(tokenizer: Tokenizer) -> tuple[int, int]:
    # The last piece: SentencePiece may have one of white space before it.
    first, second = (tokenizer.encode(mark)[-1] for mark in MARKERS)
    if tokenizer.special_ids["unk"] in (first, second):
        raise DataError(
            f"the vocabulary lacks {MARKERS[0]!r} or {MARKERS[1]!r}, which mark the entities"
        )
    return first, second


def _fitted(parts: Sequence[list[int]], budget: int) -> tuple[list[int], ...]:
    """The five parts of a sentence, cut to a number of tokens."""
    left, entity, between, other, right = parts
    sizes = pair_sizes(len(entity), len(other), budget)
    entity, other = entity[: sizes[0]], other[: sizes[1]]
    budget -= sum(sizes)
    if len(between) > budget:
        between = between[: budget - budget // 2] + between[len(between) - budget // 2 :]
    sizes = pair_sizes(len(left), len(right), budget - len(between))
    return left[len(left) - sizes[0] :], entity, between, other, right[: sizes[1]]
