"""Pairs against the slow reference, and the properties that the original's rules promise."""

from random import Random

import numpy as np
import pytest

from data_pipeline.pretraining import order, pairing
from data_pipeline.pretraining.blocks import Draws
from data_pipeline.pretraining.examples import EXAMPLE
from data_pipeline.pretraining.order import blocks_per_epoch
from data_pipeline.pretraining.pairing import plan_block, truncate_pair
from tests.data_pipeline.conftest import FIRST_TOKEN, numbered_documents, varied_lengths
from tests.data_pipeline.pretraining import slow_reference

LENGTH = 32
BUDGET = LENGTH - 3


def epoch_plan(split, epoch, *, pairs="next_sentence", length=LENGTH, short=0.1, seed=0):
    """Examples of all blocks of an epoch."""
    plans = [
        plan_block(
            split,
            pairs,
            Draws(seed, epoch, block),
            sequence_length=length,
            short_probability=short,
        )
        for block in range(blocks_per_epoch(split))
    ]
    return np.concatenate(plans)


def segments(split, plan):
    """Token lists of A and B of every example."""
    return [
        [
            split.shards[shard].tokens[offset : offset + length].tolist()
            for shard, offset, length in zip(*example, strict=True)
        ]
        for example in zip(plan["shard"], plan["offset"], plan["length"], strict=True)
    ]


def documents_of_tokens(documents):
    """Which document each token id belongs to."""
    return np.concatenate(
        [np.full(FIRST_TOKEN, -1)]
        + [np.full(sum(map(len, document)), n) for n, document in enumerate(documents)]
    )


@pytest.fixture
def documents():
    return numbered_documents(varied_lengths(150, seed=1))


@pytest.fixture
def split(documents, make_corpus, monkeypatch):
    monkeypatch.setattr(order, "SENTENCES_PER_BLOCK", 300)
    split = make_corpus(documents, shards=3).split("train")
    assert blocks_per_epoch(split) > 3
    return split


@pytest.mark.parametrize(
    ("pairs", "reference", "ones"),
    [
        # Somewhat more than half the pairs are random: chunks of one sentence always are.
        ("next_sentence", slow_reference.pairs_of_document, (0.5, 0.8)),
        ("sentence_order", slow_reference.ordered_pairs_of_document, (0.5, 0.8)),
    ],
)
def test_same_distribution_as_the_reference(documents, split, pairs, reference, ones):
    epochs = 60
    plans = [epoch_plan(split, epoch, pairs=pairs) for epoch in range(epochs)]
    ours = np.concatenate(plans)
    a, b = ours["length"].T
    ours = np.stack([a, b, ours["label"]], axis=1)
    random = Random(0)
    passes = [
        [
            pair
            for number in range(len(documents))
            for pair in reference(documents, number, BUDGET, 0.1, random)
        ]
        for _ in range(epochs)
    ]
    theirs = np.array([(len(p.a), len(p.b), p.label) for pairs in passes for p in pairs])

    def agree(measure):
        one, two = (measure(*rows.T).astype(float) for rows in (ours, theirs))
        error = np.sqrt(one.var() / len(one) + two.var() / len(two))
        assert abs(one.mean() - two.mean()) <= 5 * error, (one.mean(), two.mean(), error)

    counts = [np.array([len(plan) for plan in kind]) for kind in (plans, passes)]
    error = np.sqrt(sum(count.var() for count in counts) / epochs)
    assert abs(counts[0].mean() - counts[1].mean()) < 5 * error
    agree(lambda a, b, label: label)
    agree(lambda a, b, label: a + b == BUDGET)
    for label in (0, 1):
        for length in range(1, BUDGET):
            agree(lambda a, b, found, n=length, k=label: (a == n) & (found == k))
            agree(lambda a, b, found, n=length, k=label: (b == n) & (found == k))
    assert ones[0] < ours[:, 2].mean() < ones[1]


def test_sentence_order_swaps_half_of_the_pairs(documents, split, monkeypatch):
    monkeypatch.setattr(pairing, "truncate_pair", lambda lengths, budget: np.zeros_like(lengths))
    document_of = documents_of_tokens(documents)
    starts = {sentence[0] for document in documents for sentence in document}
    swapped = []
    for epoch in range(10):
        plan = epoch_plan(split, epoch, pairs="sentence_order")
        for (a, b), label in zip(segments(split, plan), plan["label"], strict=True):
            if document_of[a[0]] != document_of[b[0]]:
                # Only a chunk of one sentence has its B from elsewhere.
                assert label == 1
                assert not starts & set(a[1:])
            elif label:
                assert a[0] == b[-1] + 1
                swapped.append(True)
            else:
                assert b[0] == a[-1] + 1
                swapped.append(False)
    assert abs(np.mean(swapped) - 0.5) < 5 * 0.5 / np.sqrt(len(swapped))


def test_random_pairs_come_from_other_documents_uniformly(documents, split):
    document_of = documents_of_tokens(documents)
    plan = np.concatenate([epoch_plan(split, epoch) for epoch in range(30)])
    drawn = np.zeros(len(documents))
    for (a, b), label in zip(segments(split, plan), plan["label"], strict=True):
        a_document, b_document = set(document_of[a]), set(document_of[b])
        assert len(a_document) == len(b_document) == 1
        assert (a_document == b_document) == (label == 0)
        if label:
            drawn[b_document.pop()] += 1
    mean = drawn.mean()
    chi_square = ((drawn - mean) ** 2 / mean).sum()
    assert chi_square < len(drawn) - 1 + 5 * np.sqrt(2 * (len(drawn) - 1))


def test_two_documents_are_each_others_random_document(make_corpus):
    split = make_corpus(numbered_documents([[3] * 20, [3] * 10])).split("train")
    boundary = 5 + 60
    for (a, b), label in zip(
        segments(split, plan := epoch_plan(split, 0)), plan["label"], strict=True
    ):
        assert ((a[0] < boundary) != (b[0] < boundary)) == label


@pytest.mark.parametrize("pairs", ["next_sentence", "sentence_order", "doc_sentences"])
def test_an_epoch_uses_every_sentence_once(documents, split, monkeypatch, pairs):
    monkeypatch.setattr(pairing, "truncate_pair", lambda lengths, budget: np.zeros_like(lengths))
    document_of = documents_of_tokens(documents)
    for epoch in range(3):
        used = [
            token
            for a, b in segments(split, epoch_plan(split, epoch, pairs=pairs))
            for token in (a + b if b and document_of[a[0]] == document_of[b[0]] else a)
        ]
        assert sorted(used) == [t for document in documents for s in document for t in s]


def test_segments_are_whole_sentences_in_their_order(documents, split, monkeypatch):
    monkeypatch.setattr(pairing, "truncate_pair", lambda lengths, budget: np.zeros_like(lengths))
    starts = {sentence[0] for document in documents for sentence in document}
    ends = {sentence[-1] for document in documents for sentence in document}
    plan = epoch_plan(split, 0)
    for (a, b), label in zip(segments(split, plan), plan["label"], strict=True):
        assert {a[0], b[0]} <= starts
        assert {a[-1], b[-1]} <= ends
        assert a == list(range(a[0], a[-1] + 1))
        assert b == list(range(b[0], b[-1] + 1))
        if not label:
            assert b[0] == a[-1] + 1


def test_truncated_pairs_fit_and_keep_both_segments(split):
    a, b = epoch_plan(split, 0)["length"].T
    assert min(a.min(), b.min()) >= 1
    assert (a + b).max() == BUDGET


def test_truncation_equals_dropping_one_token_at_a_time():
    lengths = np.array([(a, b) for a in range(1, 40) for b in range(1, 40)])
    for budget in (2, 3, 10, 11, 29):
        kept = lengths - truncate_pair(lengths, budget)
        random = Random(0)
        for (a, b), fast in zip(lengths, kept, strict=True):
            slow = slow_reference.truncate([0] * a, [0] * b, budget, random)
            assert fast.tolist() == [len(segment) for segment in slow]


def test_truncation_takes_both_ends_alike(make_corpus):
    # One sentence of 100 tokens a document: every A is the sentence with its middle kept.
    split = make_corpus(numbered_documents([[100]] * 500)).split("train")
    plan = epoch_plan(split, 0, short=0.0)
    front = plan["offset"] % 100
    lost = 100 - plan["length"]
    assert lost.sum(axis=1).tolist() == [200 - BUDGET] * 500
    assert abs((front - lost / 2).mean()) < 5 * np.sqrt(lost.mean() / 4 / 1000)
    assert front.std() > 2


def test_without_pairs_a_chunk_reaches_its_target(documents, split):
    plan = epoch_plan(split, 0, pairs="doc_sentences", short=0.0)
    assert not plan["label"].any()
    assert not plan["length"][:, 1].any()
    last_tokens = {document[-1][-1] for document in documents}
    for (a, _), length in zip(segments(split, plan), plan["length"][:, 0], strict=True):
        assert length == LENGTH - 2 or a[-1] in last_tokens
        assert a == list(range(a[0], a[0] + len(a)))


@pytest.mark.parametrize("short", [0.0, 0.1, 1.0])
def test_target_lengths(make_corpus, short):
    # Sentences of one token: the first chunk of a document has exactly its target length.
    split = make_corpus(numbered_documents([[1] * 200] * 480)).split("train")
    plan = epoch_plan(split, 0, pairs="doc_sentences", short=short)
    targets = plan["length"][plan["offset"][:, 0] % 200 == 0, 0]
    assert len(targets) == 480
    full = LENGTH - 2
    sizes = np.arange(2, full + 1)
    for size, share in zip(sizes, short / len(sizes) + (1 - short) * (sizes == full), strict=True):
        error = np.sqrt(share * (1 - share) / 480)
        assert abs((targets == size).mean() - share) <= 5 * error + 1e-9
    assert targets.min() >= 2
    assert targets.max() == full


def test_epochs_seeds_and_keys_differ(split):
    plans = [epoch_plan(split, *key[:1], seed=key[1]) for key in ((0, 0), (1, 0), (0, 1))]
    keys = np.concatenate([plan["key"] for plan in plans])
    assert len(np.unique(keys)) == len(keys)
    for plan in plans[1:]:
        size = min(len(plan), len(plans[0]))
        assert (plan["offset"][:size] == plans[0]["offset"][:size]).mean() < 0.1
    np.testing.assert_array_equal(plans[0], epoch_plan(split, 0))


def test_shards_do_not_matter(documents, make_corpus):
    one, many = (
        segments(
            split := make_corpus(documents, shards=shards).split("train"), epoch_plan(split, 0)
        )
        for shards in (1, 7)
    )
    assert one == many


def test_an_example_is_a_row_of_eight_integers():
    assert EXAMPLE.itemsize == 64
