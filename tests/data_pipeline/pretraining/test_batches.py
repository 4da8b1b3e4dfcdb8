"""Batches of training and evaluation: contract, restarts, hosts, workers, bad input, exit."""

import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.pretraining import full_sentences, order, stream
from data_pipeline.pretraining.batches import DataConfig, batches, evaluation_batches
from data_pipeline.pretraining.config import Pairs
from data_pipeline.pretraining.order import blocks_per_epoch
from tests.data_pipeline.conftest import (
    FIRST_TOKEN,
    SPECIAL_IDS,
    VOCAB_SIZE,
    numbered_documents,
    varied_lengths,
)

SIZES = {"batch_size": 12, "sequence_length": 32, "max_predictions": 5}
CONFIG = DataConfig()
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module", autouse=True)
def tf_data():
    """From the third batch on the batches are tf.data's."""
    stream.importing().join()


@pytest.fixture
def corpus(make_corpus, monkeypatch):
    monkeypatch.setattr(order, "SENTENCES_PER_BLOCK", 300)
    monkeypatch.setattr(full_sentences, "SENTENCES_PER_RUN", 50)
    documents = numbered_documents(varied_lengths(90, seed=2))
    return make_corpus(documents[:70], documents[70:], shards=2)


@pytest.fixture
def starts_word():
    return np.random.default_rng(0).random(VOCAB_SIZE) < 0.6


def take(corpus, count, config=CONFIG, **arguments):
    return list(islice(batches(corpus, config, **SIZES, **{"seed": 0, **arguments}), count))


def assert_same(some, others):
    assert len(some) == len(others)
    for one, two in zip(some, others, strict=True):
        assert one.keys() == two.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], two[key], err_msg=key)


class Importing:
    """A thread that is alive when it is asked the first few times."""

    def __init__(self, times):
        self.times = times

    def is_alive(self):
        self.times -= 1
        return self.times >= 0


@pytest.mark.parametrize(
    "config", [CONFIG, DataConfig(pairs="doc_sentences", packed=True)], ids=["pairs", "packed"]
)
def test_batches_while_tensorflow_is_imported_and_after(corpus, monkeypatch, config):
    """All before it, or some."""
    expected = take(corpus, 12, config)
    for times in (12, 4):
        monkeypatch.setattr(stream, "importing", lambda times=times: Importing(times))
        assert_same(take(corpus, 12, config), expected)


def test_a_single_batch_imports_nothing(corpus, monkeypatch):
    monkeypatch.setattr(stream, "importing", lambda: pytest.fail("TensorFlow is imported"))
    take(corpus, 1)


def unmasked(batch):
    """input_ids before masking."""
    ids = batch["input_ids"].copy()
    rows, slots = np.nonzero(batch["masked_weights"])
    ids[rows, batch["masked_positions"][rows, slots]] = batch["masked_labels"][rows, slots]
    return ids


@pytest.mark.parametrize("pairs", get_args(Pairs))
def test_batch_contract(corpus, pairs):
    batch_size, length, slots = SIZES.values()
    expected = {
        "input_ids": (np.int32, (batch_size, length)),
        "token_type_ids": (np.int32, (batch_size, length)),
        "attention_mask": (np.int32, (batch_size, length)),
        "masked_positions": (np.int32, (batch_size, slots)),
        "masked_labels": (np.int32, (batch_size, slots)),
        "masked_weights": (np.float32, (batch_size, slots)),
        "cursor": (np.int64, (3,)),
    }
    is_pair = pairs in ("next_sentence", "sentence_order")
    if is_pair:
        expected["next_sentence_labels"] = (np.int32, (batch_size,))
    followed = 0
    for batch in take(corpus, 40, DataConfig(pairs=pairs)):
        assert {key: (value.dtype, value.shape) for key, value in batch.items()} == expected
        assert batch["masked_labels"][batch["masked_weights"] == 1].min() >= FIRST_TOKEN
        ids = unmasked(batch)
        for row in range(batch_size):
            total = int(batch["attention_mask"][row].sum())
            tokens = ids[row, :total]
            assert batch["attention_mask"][row].tolist() == [1] * total + [0] * (length - total)
            assert not batch["input_ids"][row, total:].any()
            assert tokens[0] == SPECIAL_IDS["cls"]
            separators = np.flatnonzero(tokens == SPECIAL_IDS["sep"])
            assert separators[-1] == total - 1
            assert (tokens < FIRST_TOKEN).sum() == 1 + len(separators)
            types = batch["token_type_ids"][row]
            if not is_pair:
                assert len(separators) == 1 or pairs == "full_sentences"
                assert not types.any()
                assert np.all(np.diff(np.delete(tokens, [0, *separators])) == 1)
                continue
            first, last = separators
            assert types.tolist() == [0] * (first + 1) + [1] * (last - first) + [0] * (
                length - total
            )
            # Token ids count through the corpus: stretches are contiguous, and B is after A.
            a, b = tokens[1:first], tokens[first + 1 : last]
            assert np.all(np.diff(a) == 1)
            assert np.all(np.diff(b) == 1)
            if batch["next_sentence_labels"][row] == 0:
                assert b[0] > a[-1]
                followed += 1
    assert (followed > 50) == is_pair


@pytest.mark.parametrize(
    "config",
    [
        DataConfig(),
        DataConfig(masking="whole_word"),
        DataConfig(pairs="sentence_order", masking="span"),
        DataConfig(pairs="full_sentences", mask_rate=1.0, keep_rate=0.0),
        DataConfig(pairs="doc_sentences", masked_lm_probability=0.3),
        DataConfig(pairs="doc_sentences", masking="span", packed=True),
    ],
)
def test_any_host_worker_and_restart_gives_the_same_batches(corpus, starts_word, config):
    count = 60
    whole = take(corpus, count, config, starts_word=starts_word)
    cursors = [tuple(batch["cursor"].tolist()) for batch in whole]
    assert {epoch for epoch, _, _ in cursors} >= {0, 1}, "the test must reach the second epoch"
    assert sorted(set(cursors)) == cursors

    assert_same(whole, take(corpus, count, config, starts_word=starts_word, workers=5))
    hosts = [
        take(corpus, count, config, starts_word=starts_word, host_index=host, host_count=3)
        for host in range(3)
    ]
    joined = [
        {
            key: parts[0][key] if key == "cursor" else np.concatenate([p[key] for p in parts])
            for key in parts[0]
        }
        for parts in zip(*hosts, strict=True)
    ]
    assert_same(whole, joined)
    for number in (0, 1, 13, 40):
        resumed = take(corpus, 15, config, starts_word=starts_word, cursor=whole[number]["cursor"])
        assert_same(whole[number + 1 : number + 16], resumed)


def test_masks_and_pairs_are_new_in_every_epoch(make_corpus):
    # Documents of one sentence each: A is the same text in every epoch.
    corpus = make_corpus(numbered_documents([[10]] * 24))
    epochs = take(corpus, 4)
    firsts, seconds = (
        {
            tuple(ids[1:11]): (ids[12:], positions[weights == 1].tolist())
            for batch in pair
            for ids, positions, weights in zip(
                unmasked(batch), batch["masked_positions"], batch["masked_weights"], strict=True
            )
        }
        for pair in (epochs[:2], epochs[2:])
    )
    assert firsts.keys() == seconds.keys()
    assert len(firsts) == 24
    same_b = sum(np.array_equal(firsts[text][0], seconds[text][0]) for text in firsts)
    same_masks = sum(firsts[text][1] == seconds[text][1] for text in firsts)
    assert same_b < 8
    assert same_masks < 3


@pytest.mark.parametrize(
    "config",
    [
        DataConfig(pairs="full_sentences"),
        DataConfig(pairs="doc_sentences"),
        DataConfig(pairs="doc_sentences", packed=True),
    ],
)
def test_the_stream_has_every_sentence_once_an_epoch(make_corpus, monkeypatch, config):
    monkeypatch.setattr(order, "SENTENCES_PER_BLOCK", 70)
    monkeypatch.setattr(full_sentences, "SENTENCES_PER_RUN", 50)
    # Of doc_sentences nothing is cut: a stretch of sentences of one token fits.
    corpus = make_corpus(numbered_documents([[1] * (n % 9 + 1) for n in range(60)]), shards=2)
    arguments = {"sequence_length": 16, "max_predictions": 3, "seed": 0}
    seen = []
    for batch in batches(corpus, config, batch_size=1, **arguments):
        ids = unmasked(batch)[0]
        seen += ids[ids >= FIRST_TOKEN].tolist()
        if batch["cursor"][0] == 1:
            break
    assert sorted(seen) == list(range(FIRST_TOKEN, FIRST_TOKEN + corpus.split("train").tokens))


def test_seeds_differ(corpus):
    one, two = take(corpus, 1), take(corpus, 1, seed=1)
    assert not np.array_equal(one[0]["input_ids"], two[0]["input_ids"])


@pytest.mark.parametrize("pairs", ["next_sentence", "sentence_order"])
@pytest.mark.parametrize("batch_size", [8, 5])
def test_evaluation_set_is_balanced_fixed_and_held_out(corpus, batch_size, pairs):
    # 400 examples are several epochs of the twenty held-out documents.
    sizes = {**SIZES, "batch_size": batch_size, "seed": 3, "examples": 400}
    config = DataConfig(pairs=pairs)
    found = evaluation_batches(corpus, config, **sizes)
    assert len(found) == 400 // batch_size
    assert all("cursor" not in batch for batch in found)
    for batch in found:
        assert len(batch["input_ids"]) == batch_size
        ones = batch["next_sentence_labels"].sum()
        assert abs(2 * ones - batch_size) <= batch_size % 2
    assert sum(batch["next_sentence_labels"].sum() for batch in found) == 200
    assert_same(found, evaluation_batches(corpus, config, **sizes))
    trained = set(range(FIRST_TOKEN, FIRST_TOKEN + corpus.split("train").tokens))
    assert not trained & set(np.concatenate([unmasked(batch) for batch in found]).ravel().tolist())
    keys = [
        unmasked(batch)[row].tobytes() + batch["masked_positions"][row].tobytes()
        for batch in found
        for row in range(batch_size)
    ]
    assert len(set(keys)) > 380, "an example is drawn anew in every epoch"


@pytest.mark.parametrize(
    "config",
    [
        DataConfig(pairs="full_sentences"),
        DataConfig(pairs="doc_sentences"),
        DataConfig(pairs="doc_sentences", packed=True),
    ],
)
def test_evaluation_set_without_pairs(corpus, config):
    found = evaluation_batches(corpus, config, **SIZES, seed=0, examples=48)
    assert len(found) == 4
    assert [len(batch["input_ids"]) for batch in found] == [12] * 4
    assert "next_sentence_labels" not in found[0]
    assert ("position_ids" in found[0]) == config.packed
    assert all(batch["masked_weights"].any(axis=1).all() for batch in found)
    assert_same(found, evaluation_batches(corpus, config, **SIZES, seed=0, examples=48))


def test_bad_input_is_one_clear_line(corpus, make_corpus, starts_word):
    blocks = blocks_per_epoch(corpus.split("train"))
    sizes = {**SIZES, "seed": 0}
    for change, message in (
        ({"batch_size": 10, "host_count": 3}, "batch size 10 is not a positive multiple of 3"),
        ({"batch_size": 0}, "batch size 0"),
        ({"sequence_length": 4}, "sequence length 4 is not within 5"),
        ({"sequence_length": 70_000}, "sequence length 70000"),
        ({"max_predictions": 0}, "max_predictions 0"),
        ({"max_predictions": 32}, "max_predictions 32 is not within 1 to 31"),
        ({"cursor": (0, blocks, 0)}, f"lies outside this corpus with {blocks} blocks"),
        ({"cursor": (0, 0, 10**6)}, "lies outside"),
        ({"cursor": (0, -1, 0)}, "lies outside"),
    ):
        with pytest.raises(DataError, match=message):
            batches(corpus, CONFIG, **{**sizes, **change})
    with pytest.raises(DataError, match="30 evaluation examples are not"):
        evaluation_batches(corpus, CONFIG, **sizes, examples=30)
    with pytest.raises(ValueError, match="starts_word"):
        batches(corpus, DataConfig(masking="whole_word"), **sizes)
    for pairs, shortest in (
        ("next_sentence", 5),
        ("sentence_order", 5),
        ("full_sentences", 4),
        ("doc_sentences", 4),
    ):
        config = DataConfig(pairs=pairs)
        assert config.shortest_sequence == shortest
        few = {**sizes, "max_predictions": 1}
        next(batches(corpus, config, **few | {"sequence_length": shortest}))
        with pytest.raises(DataError, match=f"is not within {shortest}"):
            batches(corpus, config, **few | {"sequence_length": shortest - 1})
    for change, message in (
        ({"masked_lm_probability": 0.0}, "masked_lm_probability is 0.0"),
        ({"short_sequence_probability": 1.5}, "short_sequence_probability is 1.5"),
        ({"pairs": "both"}, "pairs is 'both'; it must be one of next_sentence, sentence_order"),
        ({"pairs": "none"}, "pairs is 'none'"),
        ({"masking": "words"}, "masking is 'words'; it must be one of token, whole_word, span"),
        ({"mask_rate": -0.1}, "mask_rate is -0.1; it must be between 0 and 1, usually 0.8"),
        ({"keep_rate": float("nan")}, "keep_rate is nan"),
        ({"keep_rate": 0.3}, "mask_rate 0.8 and keep_rate 0.3"),
        ({"packed": True}, "packed is on, but pairs is 'next_sentence'; only 'doc_sentences'"),
        ({"packed": True, "pairs": "full_sentences"}, "packed is on, but pairs is 'full_sent"),
    ):
        with pytest.raises(DataError, match=message):
            replace(CONFIG, **change)


def test_too_few_documents(make_corpus):
    corpus = make_corpus(numbered_documents([[3, 4, 5]]))
    sizes = {**SIZES, "seed": 0}
    with pytest.raises(DataError, match=r"1 train documents.*pairs 'next_sentence' .*at least 2"):
        batches(corpus, CONFIG, **sizes)
    with pytest.raises(DataError, match=r"0 held-out documents.*--evaluation-examples 0"):
        evaluation_batches(corpus, DataConfig(pairs="doc_sentences"), **sizes, examples=12)
    assert len(take(corpus, 2, DataConfig(pairs="doc_sentences"))) == 2


@pytest.mark.parametrize("pairs", ["next_sentence", "sentence_order"])
def test_held_out_documents_of_one_sentence_cannot_be_balanced(make_corpus, pairs):
    documents = numbered_documents([[3]] * 6)
    corpus = make_corpus(documents[:2], documents[2:])
    with pytest.raises(DataError, match="no pairs of consecutive sentences"):
        evaluation_batches(corpus, DataConfig(pairs=pairs), **SIZES, seed=0, examples=12)


@pytest.mark.parametrize("imported", [False, True])
def test_an_open_stream_does_not_keep_the_interpreter_from_exiting(make_corpus, imported):
    corpus = make_corpus(numbered_documents([[3] * 20] * 50))
    # Slow enough that the exit always comes while a batch is being filled.
    program = f"""
import sys, time
from data_pipeline.pretraining import batches as pretrain
from data_pipeline.pretraining.stream import importing
from data_pipeline.corpus.shards import open_corpus

def collate_slowly(*arguments, collate=pretrain.collate_examples, **others):
    time.sleep(0.2)
    return collate(*arguments, **others)

pretrain.collate_examples = collate_slowly
stream = pretrain.batches(open_corpus({str(corpus.folder)!r}), pretrain.DataConfig(), batch_size=64,
                          sequence_length=32, max_predictions=5, seed=0)
print(next(stream)["input_ids"].shape)
next(stream)  # begins to import TensorFlow
if {imported}:
    importing().join()
    next(stream), next(stream)  # by tf.data
    print(*{{"tensorflow", "keras", "sklearn"}} & sys.modules.keys())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    expected = ["(64, 32)", *["tensorflow"] * imported]
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, expected, "")
