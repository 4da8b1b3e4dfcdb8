"""Features and batches against slow, plain versions."""

import itertools
import random

import numpy as np
import pytest

from data_pipeline.finetune.batches import TrainingBatches, ordered_batches, steps_per_epoch
from data_pipeline.finetune.features import (
    Feature,
    collate,
    pair_inputs,
    pair_sizes,
    token_arrays,
)
from data_pipeline.tokenization.interface import SPECIAL_PIECES
from data_pipeline.tokenization.wordpiece import WordPiece


def slow_pair(first, second, budget):
    """The original's loop."""
    while len(first) + len(second) > budget:
        (first if len(first) > len(second) else second).pop()
    return first, second


def test_pairs_are_cut_as_in_the_original():
    source = random.Random(0)
    for _ in range(2000):
        a, b, budget = (source.randrange(30) for _ in range(3))
        first, second = slow_pair(list(range(a)), list(range(b)), budget)
        assert pair_sizes(a, b, budget) == (len(first), len(second))


@pytest.fixture
def tokenizer():
    return WordPiece([*SPECIAL_PIECES.values(), "a", "b", "c"], lowercase=True)


def test_inputs_of_a_text_and_of_a_pair(tokenizer):
    one = pair_inputs(tokenizer, np.array([5, 6, 7]), None, 4)
    assert one.tokens["input_ids"].tolist() == [2, 5, 6, 3]
    assert one.cut == 1
    two = pair_inputs(tokenizer, np.array([5, 6, 7]), np.array([6, 6]), 7)
    assert two.tokens["input_ids"].tolist() == [2, 5, 6, 3, 6, 6, 3]
    assert two.tokens["token_type_ids"].tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert two.tokens["attention_mask"].tolist() == [1] * 7
    assert two.cut == 1


def made_up(lengths):
    return [
        Feature(
            token_arrays([number + 1] * length, [0] * length),
            {"labels": np.int32(number), "weights": np.float32(1)},
            number,
        )
        for number, length in enumerate(lengths)
    ]


def test_collate_pads_tokens_and_rows():
    batch = collate(made_up([2, 3]), 4, 3)
    assert batch["input_ids"].tolist() == [[1, 1, 0, 0], [2, 2, 2, 0], [0, 0, 0, 0]]
    assert batch["attention_mask"].sum(axis=1).tolist() == [2, 3, 0]
    assert batch["labels"].tolist() == [0, 1, 0]
    assert batch["weights"].tolist() == [1, 1, 0]
    choices = Feature({"input_ids": np.ones((2, 3), np.int32)}, {}, 0)
    assert collate([choices], 4, 2)["input_ids"].shape == (2, 2, 4)


LENGTHS = [random.Random(1).randrange(2, 100) for _ in range(53)]
BOUNDARIES = (24, 64, 100)


def taken(batches, count):
    return [next(batches) for _ in range(count)]


def test_an_epoch_has_every_row_once_and_the_next_another_order():
    batches = TrainingBatches(made_up(LENGTHS), batch_size=8, boundaries=BOUNDARIES, seed=0)
    assert steps_per_epoch(53, batch_size=8) == 7
    rows = taken(batches(None), 14)
    epochs = [
        [label for b in part for label in b["labels"][b["weights"] > 0].tolist()]
        for part in (rows[:7], rows[7:])
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(53))
    assert epochs[0] != epochs[1]
    assert {b["input_ids"].shape[1] for b in rows} <= set(BOUNDARIES)


def test_batches_go_on_from_any_cursor():
    batches = TrainingBatches(made_up(LENGTHS), batch_size=8, boundaries=BOUNDARIES, seed=3)
    whole = taken(batches(None), 16)
    for start in (1, 7, 9):
        cursor = whole[start - 1]["cursor"].tolist()
        for found, expected in zip(batches(cursor), whole[start:], strict=False):
            assert found.keys() == expected.keys()
            for name in found:
                np.testing.assert_array_equal(found[name], expected[name])


def test_ordered_batches_have_every_row_once_with_little_padding():
    found = list(ordered_batches(made_up(LENGTHS), batch_size=8, boundaries=BOUNDARIES))
    numbers = list(itertools.chain.from_iterable(numbers.tolist() for numbers, _ in found))
    assert sorted(numbers) == list(range(53))
    for numbers, batch in found:
        assert len(batch["labels"]) == 8
        assert batch["labels"][: len(numbers)].tolist() == numbers.tolist()
    lengths = [batch["input_ids"].shape[1] for _, batch in found]
    assert lengths == sorted(lengths)
