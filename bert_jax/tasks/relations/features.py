"""Features of sentences with two marked entities, and as much text as fits."""

from collections.abc import Sequence

import numpy as np

from bert_jax.tasks.relations.reader import RelationExample
from bert_jax.tasks.task import Encoding
from data_pipeline.errors import DataError
from data_pipeline.finetune.features import Features, encode_all, framed, labelled, pair_sizes

# Around the first and the second entity: R-BERT, section 3.2 (arXiv:1905.08284).
MARKERS = ("$", "#")
SHORTEST_INPUT = 16  # tokens: [CLS], [SEP], four markers and part of the entities


def relation_features(examples: Sequence[RelationExample], how: Encoding) -> Features:
    """[CLS] ... $ entity $ ... # entity # ... [SEP], one feature for each example.

    A sentence that is too long first loses its ends, then the middle of the text between the
    entities, then the ends of the entities.

    A feature also has `entity_positions`, int32 [2], those of the first "$" and the first "#".
    """
    if how.max_length < SHORTEST_INPUT:
        raise DataError(
            f"sequence_length {how.max_length} has no room for two entities; give at least "
            f"{SHORTEST_INPUT}"
        )
    tokenizer = how.tokenizer
    # The last piece of each: SentencePiece may put one of white space before it.
    marks = [tokenizer.encode(mark)[-1] for mark in MARKERS]
    unk = tokenizer.special_ids["unk"]
    if unk in marks:
        raise DataError(
            f"the vocabulary lacks {MARKERS[0]!r} or {MARKERS[1]!r}, which mark the entities"
        )
    texts = []
    for example in examples:
        (start, end), (next_start, next_end) = sorted(example.spans)
        edges = (0, start, end, next_start, next_end, len(example.first))
        texts += [example.first[edges[i] : edges[i + 1]] for i in range(5)]
    ids = encode_all(tokenizer, texts)
    rows, cut = [], 0
    for index, example in enumerate(examples):
        left, entity, between, other, right = (part.tolist() for part in ids[5 * index :][:5])
        parts = (left, entity or [unk], between, other or [unk], right)
        kept = _fitted(parts, how.max_length - 6)
        cut += sum(map(len, kept)) < sum(map(len, parts))
        left, entity, between, other, right = kept
        in_order = example.spans[0] < example.spans[1]
        mark, other_mark = marks if in_order else marks[::-1]
        before = [*left, mark, *entity, mark, *between]
        tokens = [*before, other_mark, *other, other_mark, *right]
        positions = [1 + len(left), 1 + len(before)]  # after [CLS]
        at = np.array(positions if in_order else positions[::-1], np.int32)
        arrays, target = framed(tokenizer, tokens), how.target(example.label)
        rows.append(labelled(arrays, *target, index, entity_positions=at))
    return Features(rows, cut)


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
