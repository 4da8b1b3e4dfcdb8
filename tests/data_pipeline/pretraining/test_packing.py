"""Packed rows: against slow best fit, against the unpacked sequences, and what they promise."""

from itertools import islice
from typing import get_args

import numpy as np
import pytest

from data_pipeline.pretraining import order
from data_pipeline.pretraining.batches import DataConfig, batches
from data_pipeline.pretraining.blocks import Draws
from data_pipeline.pretraining.collate import collate_examples, collate_packed
from data_pipeline.pretraining.config import Masking
from data_pipeline.pretraining.examples import EXAMPLE
from data_pipeline.pretraining.masking import mask_tokens, prediction_counts
from data_pipeline.pretraining.order import blocks_per_epoch
from data_pipeline.pretraining.packing import assign_rows, pack_examples, sequences_per_row
from data_pipeline.pretraining.pairing import plan_block
from tests.data_pipeline.conftest import (
    FIRST_TOKEN,
    SPECIAL_IDS,
    VOCAB_SIZE,
    numbered_documents,
    varied_lengths,
)
from tests.data_pipeline.pretraining import slow_reference

LENGTH, SLOTS, PROBABILITY = 32, 5, 0.15
PLAN = {"sequence_length": LENGTH, "short_probability": 0.2}
CONFIG = DataConfig(pairs="doc_sentences", packed=True)


@pytest.fixture
def corpus(make_corpus, monkeypatch):
    monkeypatch.setattr(order, "SENTENCES_PER_BLOCK", 300)
    return make_corpus(numbered_documents(varied_lengths(120, seed=4)), shards=2)


@pytest.fixture
def short_corpus(make_corpus):
    random = np.random.default_rng(1)
    lengths = random.geometric(1 / 8, 2000)
    return make_corpus(numbered_documents([[length] for length in lengths.tolist()]))


def planned(split, epoch, block):
    """The same examples in a row each, and packed."""
    draws = Draws(0, epoch, block)
    examples = plan_block(split, "doc_sentences", draws, **PLAN)
    return examples, pack_examples(examples, draws, LENGTH, SLOTS, PROBABILITY)


def take(corpus, count, *, batch_size=16, length=LENGTH, slots=SLOTS, config=CONFIG):
    stream = batches(
        corpus,
        config,
        batch_size=batch_size,
        sequence_length=length,
        max_predictions=slots,
        seed=0,
        starts_word=np.random.default_rng(0).random(VOCAB_SIZE) < 0.6,
    )
    return list(islice(stream, count))


@pytest.mark.parametrize(("row_tokens", "row_predictions"), [(128, 20), (32, 5), (64, 3), (200, 9)])
@pytest.mark.parametrize("mean", [4, 20, 90])
def test_rows_are_those_of_slow_best_fit(row_tokens, row_predictions, mean):
    random = np.random.default_rng(mean)
    tokens = np.minimum(2 + random.geometric(1 / mean, 300), row_tokens)
    predictions = prediction_counts(tokens, PROBABILITY, row_predictions)
    row = assign_rows(tokens, predictions, row_tokens, row_predictions)
    expected = slow_reference.best_fit_decreasing(
        tokens.tolist(), predictions.tolist(), row_tokens, row_predictions
    )
    used = [np.bincount(row, weights).astype(int).tolist() for weights in (tokens, predictions)]
    assert max(used[0]) <= row_tokens
    assert max(used[1]) <= row_predictions
    # Which of two rows with equal room is taken is left open, so contents may differ.
    assert sorted(zip(*used, strict=True)) == sorted(
        (int(tokens[numbers].sum()), int(predictions[numbers].sum())) for numbers in expected
    )


def test_rows_hold_the_examples_of_a_block_once(corpus):
    split = corpus.split("train")
    blocks = blocks_per_epoch(split)
    assert blocks > 3
    several, rises = 0, 0
    for epoch in range(2):
        for block in range(blocks):
            examples, rows = planned(split, epoch, block)
            assert rows.dtype == EXAMPLE
            assert rows.shape[1] == sequences_per_row(LENGTH, SLOTS) == 5
            used = rows["length"][..., 0] > 0
            assert used[:, 0].all()
            assert not (used[:, 1:] & ~used[:, :-1]).any()
            assert (rows[~used] == np.zeros((), EXAMPLE)).all()
            assert np.array_equal(
                np.sort(rows[used], order=["key"]), np.sort(examples, order=["key"])
            )
            tokens = np.where(used, rows["length"][..., 0] + 2, 0)
            assert tokens.sum(axis=1).max() <= LENGTH
            slots = np.where(used, prediction_counts(tokens, PROBABILITY, SLOTS), 0)
            assert slots.sum(axis=1).max() <= SLOTS
            several += (used.sum(axis=1) > 1).sum()
            rises += (np.diff(tokens.max(axis=1)) > 0).sum()
    assert several > 50
    assert rises > 20, "rows are made with the longest sequence first and shuffled then"


@pytest.mark.parametrize("masking", get_args(Masking))
def test_packed_sequences_are_those_of_rows_of_their_own(corpus, masking):
    split = corpus.split("train")
    settings = {
        "split": split,
        "pairs": "doc_sentences",
        "sequence_length": LENGTH,
        "special_ids": SPECIAL_IDS,
        "starts_word": np.random.default_rng(0).random(VOCAB_SIZE) < 0.6,
        "mask": lambda *arguments: mask_tokens(
            *arguments,
            masking=masking,
            max_predictions=SLOTS,
            probability=PROBABILITY,
            mask_id=SPECIAL_IDS["mask"],
            vocab_size=VOCAB_SIZE,
        ),
    }
    for block in range(blocks_per_epoch(split)):
        examples, rows = planned(split, 0, block)
        alone = collate_examples(examples, **settings)
        expected = [sequence for row in range(len(examples)) for sequence in sequences(alone, row)]
        batch = collate_packed(rows, **settings)
        found = [sequence for row in range(len(rows)) for sequence in sequences(batch, row)]
        assert len(found) == len(examples) > len(rows)
        assert sorted(found) == sorted(expected)


def sequences(batch, row):
    """(tokens shown, predicted positions in the sequence, labels) of each sequence of a row."""
    mask = batch["attention_mask"][row]
    weights = batch["masked_weights"][row] > 0
    positions = batch["masked_positions"][row][weights]
    labels = batch["masked_labels"][row][weights]
    for number in range(1, mask.max() + 1):
        (places,) = np.nonzero(mask == number)
        own = mask[positions] == number
        yield (
            batch["input_ids"][row, places].tolist(),
            (positions[own] - places[0]).tolist(),
            labels[own].tolist(),
        )


@pytest.mark.parametrize("masking", get_args(Masking))
def test_packed_batch_contract(corpus, masking):
    config = DataConfig(pairs="doc_sentences", packed=True, masking=masking)
    most = 0
    for batch in take(corpus, 30, config=config):
        assert {key: (value.dtype, value.shape) for key, value in batch.items()} == {
            "input_ids": (np.int32, (16, LENGTH)),
            "token_type_ids": (np.int32, (16, LENGTH)),
            "attention_mask": (np.int32, (16, LENGTH)),
            "position_ids": (np.int32, (16, LENGTH)),
            "masked_positions": (np.int32, (16, SLOTS)),
            "masked_labels": (np.int32, (16, SLOTS)),
            "masked_weights": (np.float32, (16, SLOTS)),
            "cursor": (np.int64, (3,)),
        }
        assert not batch["token_type_ids"].any()
        for row in range(16):
            mask = batch["attention_mask"][row]
            lengths = np.bincount(mask, minlength=2)[1:].tolist()
            most = max(most, len(lengths))
            padding = LENGTH - sum(lengths)
            numbers = [n + 1 for n, length in enumerate(lengths) for _ in range(length)]
            assert mask.tolist() == numbers + [0] * padding
            positions = [position for length in lengths for position in range(length)]
            assert batch["position_ids"][row].tolist() == positions + [0] * padding
            ids = batch["input_ids"][row].copy()
            assert (ids[len(numbers) :] == SPECIAL_IDS["pad"]).all()
            used = int(batch["masked_weights"][row].sum())
            assert batch["masked_weights"][row].tolist() == [1] * used + [0] * (SLOTS - used)
            predicted = batch["masked_positions"][row]
            assert (np.diff(predicted[:used]) > 0).all()
            assert not predicted[used:].any()
            assert not batch["masked_labels"][row, used:].any()
            ids[predicted[:used]] = batch["masked_labels"][row, :used]
            for number in range(1, len(lengths) + 1):
                tokens = ids[mask == number]
                assert (tokens[0], tokens[-1]) == (SPECIAL_IDS["cls"], SPECIAL_IDS["sep"])
                # Token ids count through the corpus: a sequence is one stretch of it.
                assert (np.diff(tokens[1:-1]) == 1).all()
                assert tokens[1] >= FIRST_TOKEN
    assert most >= 4


def test_short_documents_leave_little_padding(short_corpus):
    """Counted by hand in every batch of an epoch."""
    lengths = np.diff(short_corpus.split("train").shards[0].sentences) + 2
    assert lengths.max() < 128
    filled, rows = 0, 0
    for batch in take(short_corpus, 1000, batch_size=1, length=128, slots=24):
        filled += sum(1 for number in batch["attention_mask"][0] if number)
        rows += 1
        if batch["cursor"][0] == 1:
            break
    assert filled == lengths.sum()
    assert 1 - filled / (128 * rows) < 0.1
    assert 1 - lengths.mean() / 128 > 0.9
