"""Stateless random numbers: fixed values, distribution, permutations."""

from collections import Counter

import numpy as np
import pytest

from data_pipeline.keyed_random import (
    coin,
    coin_sum,
    derive_key,
    permute,
    random_bits,
    uniform,
    uniform_below,
)

KEY = derive_key(7, 1)


def splitmix64(state: int) -> int:
    """SplitMix64's output for a state, in Python integers."""
    modulus = 1 << 64
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % modulus
    state = (state ^ state >> 27) * 0x94D049BB133111EB % modulus
    return state ^ state >> 31


def test_bits_are_those_of_splitmix64():
    # The published first outputs for the seed 1234567.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert random_bits(1234567, np.arange(1, 4)).tolist() == published
    expected = [splitmix64((KEY + n * 0x9E3779B97F4A7C15) % (1 << 64)) for n in range(50)]
    assert random_bits(KEY, np.arange(50)).tolist() == expected


def test_values_never_change():
    # A checkpoint's position means the same data only as long as these hold.
    assert derive_key(1, 2, 3) == 17973103972163397483
    assert permute(np.arange(10), 10, derive_key(1, 2, 3)).tolist() == [
        7,
        1,
        0,
        5,
        8,
        6,
        2,
        4,
        3,
        9,
    ]


def test_keys_differ_by_every_word_and_order():
    keys = [
        derive_key(*words) for words in ((0,), (0, 0), (0, 1), (1, 0), (-1, 0), (1,), (1, 0, 0))
    ]
    assert len(set(keys)) == len(keys)


def test_key_array_equals_single_keys():
    keys = random_bits(KEY, np.arange(3))
    together = random_bits(keys[:, None], np.arange(5))
    for key, row in zip(keys, together, strict=True):
        np.testing.assert_array_equal(random_bits(int(key), np.arange(5)), row)


def test_uniform():
    n = 200_000
    values = uniform(random_bits(KEY, np.arange(n)))
    assert values.min() >= 0
    assert values.max() < 1
    counts = np.histogram(values, 100, (0, 1))[0]
    # Chi-square with 99 degrees of freedom: mean 99, standard deviation 14.
    assert ((counts - n / 100) ** 2 / (n / 100)).sum() < 99 + 5 * 14
    neighbours = np.corrcoef(values[:-1], values[1:])[0, 1]
    other_key = np.corrcoef(values, uniform(random_bits(derive_key(8, 1), np.arange(n))))[0, 1]
    assert max(abs(neighbours), abs(other_key)) < 5 / np.sqrt(n)


def test_every_bit_is_a_fair_coin():
    n = 20_000
    bits = random_bits(KEY, np.arange(n))
    for position in range(64):
        heads = coin(bits >> np.uint64(position)).sum()
        assert abs(heads - n / 2) < 5 * np.sqrt(n / 4)


def test_uniform_below():
    bits = random_bits(KEY, np.arange(60_000))
    counts = np.bincount(uniform_below(bits, 6), minlength=6)
    assert len(counts) == 6
    assert np.all(np.abs(counts - 10_000) < 5 * np.sqrt(10_000))
    largest = np.array([(1 << 64) - 1], np.uint64)
    for bound in (1, 2, 3, 10**9, 1 << 53):
        assert uniform_below(largest, bound) == bound - 1


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 200])
def test_coin_sum_is_binomial(count):
    n = 20_000
    # Other counts in between must not disturb.
    counts = np.stack([np.full(n, count), np.arange(n) % 130], axis=1).reshape(-1)
    heads = coin_sum(KEY, counts)
    assert np.all((heads >= 0) & (heads <= counts))
    heads = heads[::2]
    assert abs(heads.mean() - count / 2) <= 5 * np.sqrt(count / 4 / n)
    assert abs(heads.var() - count / 4) <= 5 * np.sqrt(2 / n) * count / 4 + 1e-9


def test_coin_sum_of_nothing():
    assert coin_sum(KEY, np.zeros(0, np.int64)).tolist() == []


@pytest.mark.parametrize("size", [*range(1, 70), 1000, 4096, 4097])
def test_permute_is_a_bijection(size):
    assert sorted(permute(np.arange(size), size, KEY).tolist()) == list(range(size))


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_all_permutations_are_equally_likely(size):
    trials = 3000
    found = Counter(
        tuple(permute(np.arange(size), size, derive_key(trial)).tolist()) for trial in range(trials)
    )
    kinds = int(np.prod(np.arange(1, size + 1)))
    mean = trials / kinds
    assert len(found) == kinds
    chi_square = sum((count - mean) ** 2 / mean for count in found.values())
    assert chi_square < kinds - 1 + 5 * np.sqrt(2 * (kinds - 1))


def test_large_permutation_is_direct_and_uniform():
    size = 10**15
    values = permute(np.arange(50_000), size, KEY)
    assert len(np.unique(values)) == 50_000
    counts = np.histogram(values, 50, (0, size))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 49 + 5 * np.sqrt(98)
    steps = np.corrcoef(values[:-1] / size, values[1:] / size)[0, 1]
    assert abs(steps) < 5 / np.sqrt(50_000)
    # One entry alone is the same as in the whole.
    assert permute(np.array([777]), size, KEY)[0] == values[777]
