"""Full sentences across documents: against the slow reference, and what they promise."""

import numpy as np
import pytest

from data_pipeline.pretraining import full_sentences, order
from data_pipeline.pretraining.blocks import Draws, locate_documents
from data_pipeline.pretraining.collate import collate_examples
from data_pipeline.pretraining.examples import EXAMPLE
from data_pipeline.pretraining.full_sentences import plan_full_sentences, runs_of_documents
from data_pipeline.pretraining.order import blocks_per_epoch
from tests.data_pipeline.conftest import SPECIAL_IDS, numbered_documents, varied_lengths
from tests.data_pipeline.pretraining import slow_reference

LENGTH = 32
BUDGET = LENGTH - 2


@pytest.fixture
def documents():
    return numbered_documents(varied_lengths(150, seed=3))


@pytest.fixture
def split(documents, make_corpus, monkeypatch):
    monkeypatch.setattr(order, "SENTENCES_PER_BLOCK", 300)
    monkeypatch.setattr(full_sentences, "SENTENCES_PER_RUN", 60)
    split = make_corpus(documents, shards=3).split("train")
    assert blocks_per_epoch(runs_of_documents(split)) > 3
    return split


def epoch_plan(split, epoch, *, short=0.0, seed=0, length=LENGTH):
    """Examples of all blocks of an epoch."""
    runs = runs_of_documents(split)
    plans = [
        plan_full_sentences(
            runs,
            Draws(seed, epoch, block),
            sequence_length=length,
            short_probability=short,
        )
        for block in range(blocks_per_epoch(runs))
    ]
    return np.concatenate(plans)


def no_mask(input_ids, eligible, lengths, keys, words):
    """In place of masks, the arguments by which they would be chosen."""
    return eligible, lengths, keys


def filled(split, plan, length=LENGTH):
    return collate_examples(
        plan,
        split=split,
        pairs="full_sentences",
        sequence_length=length,
        special_ids=SPECIAL_IDS,
        mask=no_mask,
    )


def texts(split, plan, length=LENGTH):
    """Tokens of every example between [CLS] and the last [SEP]."""
    batch = filled(split, plan, length)
    found = []
    for ids, attended in zip(batch["input_ids"], batch["attention_mask"], strict=True):
        tokens = ids[: attended.sum()].tolist()
        assert tokens[0] == SPECIAL_IDS["cls"]
        assert tokens[-1] == SPECIAL_IDS["sep"]
        assert not ids[attended.sum() :].any()
        found.append(tokens[1:-1])
    return found


def test_runs_are_consecutive_documents_of_a_shard(documents, split):
    runs = runs_of_documents(split)
    size = round(60 * 150 / split.sentences)
    assert size > 2
    assert runs.documents == 3 * -(-50 // size)
    assert (runs.sentences, runs.tokens) == (split.sentences, split.tokens)
    number, first, last = locate_documents(runs, np.arange(runs.documents))
    for index, shard in enumerate(split.shards):
        expected = [*shard.documents[:-1][::size].tolist(), int(shard.documents[-1])]
        assert first[number == index].tolist() == expected[:-1]
        assert last[number == index].tolist() == expected[1:]
        assert runs.shards[index] is shard


@pytest.mark.parametrize("length", [4, 9, LENGTH, 200])
def test_examples_are_those_of_the_reference(documents, split, length):
    size = round(60 * 150 / split.sentences)
    expected = [
        example
        for shard in (documents[:50], documents[50:100], documents[100:])
        for first in range(0, 50, size)
        for example in slow_reference.full_sentences(
            shard[first : first + size], length - 2, SPECIAL_IDS["sep"]
        )
    ]
    across = [example for example in expected if SPECIAL_IDS["sep"] in example]
    assert (len(across) > 20) == (length > 4)  # two tokens have no room for a separator
    for epoch in range(2):
        plan = epoch_plan(split, epoch, length=length)
        found = texts(split, plan, length)
        assert sorted(found) == sorted(expected)
        assert found != sorted(found)


@pytest.mark.parametrize("short", [0.0, 0.3, 1.0])
def test_an_epoch_uses_every_token_once_in_whole_sentences(documents, split, short):
    pieces = [
        sentence[start : start + BUDGET]
        for document in documents
        for sentence in document
        for start in range(0, len(sentence), BUDGET)
    ]
    starts, ends = {piece[0] for piece in pieces}, {piece[-1] for piece in pieces}
    for epoch in range(3):
        found = texts(split, epoch_plan(split, epoch, short=short))
        assert all(len(text) <= BUDGET for text in found)
        assert all(text[0] in starts and text[-1] in ends for text in found)
        used = sorted(token for text in found for token in text if token != SPECIAL_IDS["sep"])
        assert used == [t for document in documents for s in document for t in s]


def test_separators_stand_between_documents_only(documents, split):
    last_tokens = {document[-1][-1] for document in documents}
    found = texts(split, epoch_plan(split, 0))
    crossings = 0
    for text in found:
        for before, token, after in zip(text, text[1:], text[2:], strict=False):
            if token == SPECIAL_IDS["sep"]:
                assert before in last_tokens
                assert after == before + 1
                crossings += 1
            elif SPECIAL_IDS["sep"] not in (before, after):
                assert before not in last_tokens
                assert token == before + 1
    assert crossings > 30
    assert all(SPECIAL_IDS["sep"] not in (text[0], text[-1]) for text in found)


def test_masks_know_the_length_with_separators_and_spare_them(split):
    batch = filled(split, epoch_plan(split, 0))
    # What no_mask put there: `eligible` and `lengths`.
    eligible, lengths = batch["masked_positions"], batch["masked_labels"]
    np.testing.assert_array_equal(lengths, batch["attention_mask"].sum(axis=1))
    np.testing.assert_array_equal(eligible, batch["input_ids"] > max(SPECIAL_IDS.values()))
    assert not batch["token_type_ids"].any()
    assert "next_sentence_labels" not in batch


def test_many_documents_of_one_sentence_share_an_example(make_corpus):
    split = make_corpus(numbered_documents([[1]] * 46)).split("train")
    first, *others = sorted(texts(split, epoch_plan(split, 0)))
    # The last one has no room in the third example.
    assert [len(text) for text in others] == [BUDGET - 1, BUDGET - 1, 1]
    assert first == [token for n in range(15) for token in (5 + n, SPECIAL_IDS["sep"])][:-1]


def test_short_runs_aim_at_shorter_lengths(make_corpus, monkeypatch):
    monkeypatch.setattr(full_sentences, "SENTENCES_PER_RUN", 100)
    split = make_corpus(numbered_documents([[1] * 100] * 300)).split("train")
    plan = epoch_plan(split, 0, short=0.25)
    targets = plan["length"][plan["offset"][:, 0] % 100 == 0, 0]
    assert len(targets) == 300
    assert targets.min() >= 2
    share = 0.25 * (1 - 1 / (BUDGET - 1))
    assert abs((targets < BUDGET).mean() - share) < 5 * np.sqrt(share * (1 - share) / 300)


def test_epochs_seeds_and_keys_differ(split):
    plans = [epoch_plan(split, *key[:1], seed=key[1]) for key in ((0, 0), (1, 0), (0, 1))]
    assert all(plan.dtype == EXAMPLE for plan in plans)
    keys = np.concatenate([plan["key"] for plan in plans])
    assert len(np.unique(keys)) == len(keys)
    for plan in plans[1:]:
        assert (plan["offset"] == plans[0]["offset"]).mean() < 0.1
    np.testing.assert_array_equal(plans[0], epoch_plan(split, 0))
