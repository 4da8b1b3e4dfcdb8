"""Masks against the slow reference, and their properties."""

from random import Random

import numpy as np
import pytest
import slow_reference

from data_pipeline.keyed_random import derive_key, random_bits
from data_pipeline.masking import mask_tokens

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


def mask(ids, eligible, lengths, keys, slots=20, probability=0.15, starts_word=None):
    shown = ids.copy()
    return shown, *mask_tokens(
        shown,
        eligible,
        lengths,
        keys,
        max_predictions=slots,
        probability=probability,
        mask_id=MASK,
        vocab_size=VOCAB_SIZE,
        starts_word=starts_word,
    )


@pytest.fixture(scope="module")
def starts_word():
    starts = np.random.default_rng(5).random(VOCAB_SIZE) < 0.6
    starts[:FIRST] = True
    return starts


@pytest.mark.parametrize("whole_words", [False, True])
@pytest.mark.parametrize("slots", [1, 5, 20])
def test_contract(starts_word, whole_words, slots):
    ids, eligible, lengths = rows(300, 40, fullest=False)
    shown, positions, labels, weights = mask(
        ids, eligible, lengths, keys(300), slots, starts_word=starts_word if whole_words else None
    )
    assert [a.dtype for a in (positions, labels, weights)] == [np.int32, np.int32, np.float32]
    assert positions.shape == labels.shape == weights.shape == (300, slots)
    changed = shown != ids
    for row in range(300):
        used = int(weights[row].sum())
        wanted = min(slots, max(1, round(0.15 * int(lengths[row]))))
        assert used <= wanted
        assert whole_words or used == wanted
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


def test_eighty_ten_ten_and_uniform_positions():
    size, length = 4000, 64
    ids, eligible, lengths = rows(size, length, seed=3)
    shown, positions, labels, weights = mask(ids, eligible, lengths, keys(size))
    used = weights == 1
    seen = np.take_along_axis(shown, positions, axis=1)[used]
    labels = labels[used]
    n = len(labels)
    assert n == size * 10
    is_mask, is_kept = seen == MASK, seen == labels
    random = seen[~is_mask & ~is_kept]
    for rate, expected in (
        (is_mask.mean(), 0.8 + 0.1 / VOCAB_SIZE),
        (is_kept.mean(), 0.1 + 0.1 / VOCAB_SIZE),
        (len(random) / n, 0.1 * (1 - 2 / VOCAB_SIZE)),
    ):
        assert abs(rate - expected) < 5 * np.sqrt(expected * (1 - expected) / n)
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
    for words in (None, starts_word):
        whole = mask(ids, eligible, lengths, keys(64), starts_word=words)
        part = slice(10, 13)
        alone = mask(ids[part], eligible[part], lengths[part], keys(64)[part], starts_word=words)
        for one, two in zip(whole, alone, strict=True):
            np.testing.assert_array_equal(one[part], two)
        other = mask(ids, eligible, lengths, keys(64, seed=1), starts_word=words)
        assert (whole[1] == other[1]).all(axis=1).mean() < 0.1


def test_whole_words_are_whole_and_fill_the_room(starts_word):
    ids, eligible, lengths = rows(500, 40, seed=9, fullest=False)
    _, positions, _, weights = mask(ids, eligible, lengths, keys(500), starts_word=starts_word)
    for row in range(500):
        chosen = set(positions[row, weights[row] == 1].tolist())
        words = slow_reference.words(eligible[row].tolist(), starts_word[ids[row]].tolist())
        sizes = [len(word) for word in words if not chosen & set(word)]
        assert all(chosen >= set(word) or not chosen & set(word) for word in words)
        assert chosen <= {position for word in words for position in word}
        room = min(20, max(1, round(0.15 * int(lengths[row])))) - len(chosen)
        assert room >= 0
        assert all(size > room for size in sizes)


@pytest.mark.parametrize("whole_words", [False, True])
def test_same_distribution_as_the_reference(starts_word, whole_words):
    trials = 6000
    ids, eligible, lengths = rows(1, 24, seed=11)
    _, positions, _, weights = mask(
        *(np.repeat(array, trials, axis=0) for array in (ids, eligible, lengths)),
        keys(trials),
        probability=0.25,
        starts_word=starts_word if whole_words else None,
    )
    row = np.nonzero(weights)[0]
    ours = np.zeros((trials, 24))
    ours[row, positions[weights == 1]] = 1
    words = slow_reference.words(eligible[0].tolist(), starts_word[ids[0]].tolist())
    if whole_words:
        assert {len(word) for word in words} > {1, 2}
    else:
        words = [[position] for word in words for position in word]
    random = Random(0)
    theirs = np.zeros((trials, 24))
    for trial in range(trials):
        chosen = slow_reference.mask(
            ids[0].tolist(),
            words,
            slots=20,
            probability=0.25,
            mask_id=MASK,
            vocab_size=VOCAB_SIZE,
            random=random,
        )[1]
        theirs[trial, chosen] = 1
    # How often each position is chosen, each two together, and how many in all.
    pairs = [np.einsum("ni,nj->ij", kind, kind) / trials for kind in (ours, theirs)]
    error = np.sqrt(pairs[1] * (1 - pairs[1]) * 2 / trials)
    assert np.all(np.abs(pairs[0] - pairs[1]) <= 5 * error + 3 / trials)
    sums = [np.bincount(kind.sum(axis=1).astype(int), minlength=9) for kind in (ours, theirs)]
    assert np.all(np.abs(sums[0] - sums[1]) <= 5 * np.sqrt(sums[0] + sums[1]) + 1e-9)


def test_words_longer_than_the_room_leave_a_row_without_predictions():
    ids = np.full((3, 12), FIRST, np.int32)
    eligible = np.ones((3, 12), bool)
    eligible[:, [0, 6, 11]] = False
    no_starts = np.zeros(VOCAB_SIZE, bool)
    lengths = np.full(3, 12)
    shown, positions, _, weights = mask(ids, eligible, lengths, keys(3), starts_word=no_starts)
    assert not weights.any()
    assert not positions.any()
    np.testing.assert_array_equal(shown, ids)
    # A word ends at a special token: with room for five, one of the two sides fits.
    weights = mask(ids, eligible, lengths, keys(3), probability=0.45, starts_word=no_starts)[3]
    assert set(weights.sum(axis=1).tolist()) <= {4.0, 5.0}
