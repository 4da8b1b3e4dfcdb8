"""Masks against the slow reference, and their properties."""

from random import Random
from typing import get_args

import numpy as np
import pytest

from data_pipeline.keyed_random import derive_key, random_bits
from data_pipeline.pretraining.config import Masking
from data_pipeline.pretraining.masking import _span_words, mask_tokens
from tests.data_pipeline.pretraining import slow_reference

CLS, SEP, MASK, FIRST = 2, 3, 4, 5
VOCAB_SIZE = 1000


def rows(size, length, seed=0, fullest=True):
    """Padded sequences [CLS] A [SEP] B [SEP]: ids, eligible positions, lengths."""
    random = np.random.default_rng(seed)
    ids = np.zeros((size, length), np.int32)
    eligible = np.zeros((size, length), bool)
    lengths = np.full(size, length) if fullest else random.integers(5, length + 1, size)
    for row, tokens in enumerate(lengths):
        middle = random.integers(2, tokens - 2)
        ids[row, :tokens] = random.integers(FIRST, VOCAB_SIZE, tokens)
        eligible[row, :tokens] = True
        ids[row, 0], ids[row, [middle, tokens - 1]] = CLS, SEP
        eligible[row, [0, middle, tokens - 1]] = False
    return ids, eligible, lengths


def keys(size, seed=0):
    return random_bits(derive_key(seed), np.arange(size))


def mask(ids, eligible, lengths, keys, slots=20, *, masking="token", starts_word=None, **rates):
    """Masked ids, positions, labels and weights; `starts_word` is bool [vocab_size]."""
    shown = ids.copy()
    return shown, *mask_tokens(
        shown,
        eligible,
        lengths,
        keys,
        None if masking == "token" else starts_word[ids],
        masking=masking,
        max_predictions=slots,
        mask_id=MASK,
        vocab_size=VOCAB_SIZE,
        **{"probability": 0.15, **rates},
    )


@pytest.fixture(scope="module")
def starts_word():
    starts = np.random.default_rng(5).random(VOCAB_SIZE) < 0.6
    starts[:FIRST] = True
    return starts


@pytest.mark.parametrize("masking", get_args(Masking))
@pytest.mark.parametrize("slots", [1, 5, 20])
def test_contract(starts_word, masking, slots):
    ids, eligible, lengths = rows(300, 40, fullest=False)
    shown, positions, labels, weights = mask(
        ids, eligible, lengths, keys(300), slots, masking=masking, starts_word=starts_word
    )
    assert [a.dtype for a in (positions, labels, weights)] == [np.int32, np.int32, np.float32]
    assert positions.shape == labels.shape == weights.shape == (300, slots)
    changed = shown != ids
    for row in range(300):
        used = int(weights[row].sum())
        wanted = min(slots, max(1, round(0.15 * int(lengths[row]))))
        assert used <= wanted
        assert masking != "token" or used == wanted
        assert weights[row].tolist() == [1] * used + [0] * (slots - used)
        chosen = positions[row, :used]
        assert np.all(np.diff(chosen) > 0)
        assert eligible[row, chosen].all()
        assert labels[row, :used].tolist() == ids[row, chosen].tolist()
        assert not positions[row, used:].any()
        assert not labels[row, used:].any()
        assert set(np.flatnonzero(changed[row])) <= set(chosen.tolist())


def test_number_of_predictions_rounds_half_to_even():
    ids, eligible, _ = rows(1, 40)
    for length, expected in ((3, 1), (10, 2), (30, 4), (50, 8), (70, 10), (90, 14)):
        lengths = np.array([length])  # 0.15 · length is 1.5, 4.5, 7.5, … from 10 on
        assert mask(ids, eligible, lengths, keys(1))[3].sum() == expected


def test_never_more_predictions_than_eligible_tokens():
    ids, eligible, lengths = rows(50, 12)
    weights = mask(ids, eligible, lengths, keys(50), slots=11, probability=1.0)[3]
    assert weights.sum(axis=1).tolist() == eligible.sum(axis=1).tolist()


@pytest.mark.parametrize("rates", [(0.8, 0.1), (0.5, 0.2), (1.0, 0.0), (0.0, 0.0)])
def test_what_is_shown_and_uniform_positions(rates):
    size, length = 4000, 64
    ids, eligible, lengths = rows(size, length, seed=3)
    shown, positions, labels, weights = mask(
        ids, eligible, lengths, keys(size), mask_rate=rates[0], keep_rate=rates[1]
    )
    rest = 1 - sum(rates)
    used = weights == 1
    seen = np.take_along_axis(shown, positions, axis=1)[used]
    labels = labels[used]
    n = len(labels)
    assert n == size * 10
    is_mask, is_kept = seen == MASK, seen == labels
    random = seen[~is_mask & ~is_kept]
    for rate, expected in (
        (is_mask.mean(), rates[0] + rest / VOCAB_SIZE),
        (is_kept.mean(), rates[1] + rest / VOCAB_SIZE),
        (len(random) / n, rest * (1 - 2 / VOCAB_SIZE)),
    ):
        assert abs(rate - expected) <= 5 * np.sqrt(expected * max(1 - expected, 0) / n) + 1e-12
    if len(random):
        # Random pieces come from the whole vocabulary, special tokens too.
        counts = np.histogram(random, 20, (0, VOCAB_SIZE))[0]
        mean = len(random) / 20
        assert ((counts - mean) ** 2 / mean).sum() < 19 + 5 * np.sqrt(38)
    # Each position as often as it is eligible.
    chosen = np.bincount(positions[used], minlength=length)
    expected = (eligible * (10 / eligible.sum(axis=1))[:, None]).sum(axis=0)
    assert np.all(np.abs(chosen - expected) <= 5 * np.sqrt(expected))


def test_masks_depend_on_the_key_alone(starts_word):
    ids, eligible, lengths = rows(64, 40)
    for masking in get_args(Masking):
        kind = {"masking": masking, "starts_word": starts_word}
        whole = mask(ids, eligible, lengths, keys(64), **kind)
        part = slice(10, 13)
        alone = mask(ids[part], eligible[part], lengths[part], keys(64)[part], **kind)
        for one, two in zip(whole, alone, strict=True):
            np.testing.assert_array_equal(one[part], two)
        other = mask(ids, eligible, lengths, keys(64, seed=1), **kind)
        assert (whole[1] == other[1]).all(axis=1).mean() < 0.1


@pytest.mark.parametrize("masking", ["whole_word", "span"])
def test_words_are_whole_and_fill_the_room(starts_word, masking):
    ids, eligible, lengths = rows(500, 40, seed=9, fullest=False)
    _, positions, _, weights = mask(
        ids, eligible, lengths, keys(500), masking=masking, starts_word=starts_word
    )
    for row in range(500):
        chosen = set(positions[row, weights[row] == 1].tolist())
        words = slow_reference.words(eligible[row].tolist(), starts_word[ids[row]].tolist())
        sizes = [len(word) for word in words if not chosen & set(word)]
        assert all(chosen >= set(word) or not chosen & set(word) for word in words)
        assert chosen <= {position for word in words for position in word}
        room = min(20, max(1, round(0.15 * int(lengths[row])))) - len(chosen)
        assert room >= 0
        assert all(size > room for size in sizes)


@pytest.mark.parametrize("masking", get_args(Masking))
def test_same_distribution_as_the_reference(starts_word, masking):
    trials, length = 6000, 32
    ids, eligible, lengths = rows(1, length, seed=11)
    shown, positions, _, weights = mask(
        *(np.repeat(array, trials, axis=0) for array in (ids, eligible, lengths)),
        keys(trials),
        probability=0.3,
        masking=masking,
        starts_word=starts_word,
        mask_rate=0.5,
        keep_rate=0.2,
    )
    row = np.nonzero(weights)[0]
    ours = np.zeros((2, trials, length))  # chosen; chosen and shown as [MASK]
    ours[0, row, positions[weights == 1]] = 1
    ours[1] = ours[0] * (shown == MASK)
    words = slow_reference.words(eligible[0].tolist(), starts_word[ids[0]].tolist())
    assert {len(word) for word in words} > {1, 2}
    if masking == "token":
        words = [[position] for word in words for position in word]
    reference = slow_reference.mask_spans if masking == "span" else slow_reference.mask
    random = Random(0)
    theirs = np.zeros((2, trials, length))
    for trial in range(trials):
        tokens, chosen = reference(
            ids[0].tolist(),
            words,
            slots=20,
            probability=0.3,
            mask_rate=0.5,
            keep_rate=0.2,
            mask_id=MASK,
            vocab_size=VOCAB_SIZE,
            random=random,
        )
        theirs[0, trial, chosen] = 1
        theirs[1, trial, [place for place in chosen if tokens[place] == MASK]] = 1
    # How often each position is chosen, each two together, and shown as [MASK] together.
    for one, two in zip(ours, theirs, strict=True):
        pairs = [np.einsum("ni,nj->ij", kind, kind) / trials for kind in (one, two)]
        error = np.sqrt(pairs[1] * (1 - pairs[1]) * 2 / trials)
        assert np.all(np.abs(pairs[0] - pairs[1]) <= 5 * error + 3 / trials)
    # How many in all.
    sums = [np.bincount(kind[0].sum(axis=1).astype(int), minlength=20) for kind in (ours, theirs)]
    assert np.all(np.abs(sums[0] - sums[1]) <= 5 * np.sqrt(sums[0] + sums[1]) + 1e-9)


def test_span_lengths_are_those_of_the_paper():
    counts = np.bincount(_span_words(keys(100_000)), minlength=12)
    share = 0.2 * 0.8 ** np.arange(10)
    expected = np.concatenate([[0], share / share.sum(), [0]])
    error = np.sqrt(expected * (1 - expected) / 100_000)
    assert np.all(np.abs(counts / 100_000 - expected) <= 5 * error)
    assert round((counts * np.arange(12)).sum() / 100_000, 1) == 3.8


def test_a_span_begins_at_a_random_word_and_is_shown_alike(starts_word):
    """With room for ten words and one draw of length ten, a row is one span or its parts."""
    size, length = 4000, 100
    ids = np.random.default_rng(2).integers(FIRST, VOCAB_SIZE, (size, length)).astype(np.int32)
    eligible = np.ones((size, length), bool)
    eligible[:, [0, -1]] = False
    shown, positions, labels, weights = mask(
        ids,
        eligible,
        np.full(size, length),
        keys(size),
        slots=2,
        masking="span",
        starts_word=np.ones(VOCAB_SIZE, bool),
    )
    assert (weights == 1).all()
    # Two words are one span with probability P(length >= 2), else two.
    together = np.diff(positions, axis=1)[:, 0] == 1
    share = 1 - 0.2 / (1 - 0.8**10)
    # Words that are two spans rarely stand side by side.
    assert abs(together.mean() - share) < 5 * np.sqrt(share * (1 - share) / size) + 2 / 97
    is_mask = np.take_along_axis(shown, positions, axis=1) == MASK
    alike = is_mask[together, 0] == is_mask[together, 1]
    assert alike.mean() > 0.98
    assert 0.6 < (is_mask[~together, 0] == is_mask[~together, 1]).mean() < 0.76
    # A random piece is drawn for each token of a span.
    seen = np.take_along_axis(shown, positions, axis=1)
    random = together & ((seen != labels) & ~is_mask).all(axis=1)
    assert random.sum() > 100
    assert (seen[random, 0] == seen[random, 1]).mean() < 0.05
    # The first word is uniform, but for the last one, at which a span of two is cut.
    counts = np.bincount(positions[together, 0], minlength=length)[1:-2]
    mean = counts.mean()
    assert ((counts - mean) ** 2 / mean).sum() < len(counts) + 5 * np.sqrt(2 * len(counts))


@pytest.mark.parametrize("masking", ["whole_word", "span"])
def test_words_longer_than_the_room_leave_a_row_without_predictions(masking):
    ids = np.full((3, 12), FIRST, np.int32)
    eligible = np.ones((3, 12), bool)
    eligible[:, [0, 6, 11]] = False
    no_starts = np.zeros(VOCAB_SIZE, bool)
    lengths = np.full(3, 12)
    words = {"masking": masking, "starts_word": no_starts}
    shown, positions, _, weights = mask(ids, eligible, lengths, keys(3), **words)
    assert not weights.any()
    assert not positions.any()
    np.testing.assert_array_equal(shown, ids)
    # A word ends at a special token: with room for five, one of the two sides fits.
    weights = mask(ids, eligible, lengths, keys(3), probability=0.45, **words)[3]
    assert set(weights.sum(axis=1).tolist()) <= {4.0, 5.0}
