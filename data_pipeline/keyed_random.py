"""Stateless random numbers: each is a pure function of a key and a counter, on any machine.

NumPy's own generators may change their streams between versions, and their state depends on what
was drawn before. Here the n-th number of a key is computed directly, for whole arrays at once. The
mixer is the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014, figure 14).
"""

from typing import Any

import numpy as np

_MASK = (1 << 64) - 1
_GOLDEN_GAMMA = 0x9E3779B97F4A7C15
_FEISTEL_ROUNDS = 8


def _mix(bits: np.ndarray) -> np.ndarray:
    """Scrambles uint64 values in place; a bijection whose outputs look independent."""
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return bits


def derive_key(*words: int) -> int:
    """A 64-bit key from a sequence of integers, such as (seed, purpose, epoch, block).

    Other integers, or the same in another order, give an unrelated key.
    """
    key = len(words)
    for word in words:
        state = np.array(
            [(key ^ (word & _MASK)) * _GOLDEN_GAMMA + _GOLDEN_GAMMA & _MASK], np.uint64
        )
        key = int(_mix(state)[0])
    return key


def random_bits(key: int | np.ndarray, counter: np.ndarray) -> np.ndarray:
    """Number `counter` of the stream of `key`: uint64 of the broadcast shape, uniform.

    The key is an integer, or uint64 of any shape. It must be scrambled, that is, come from
    `derive_key` or `random_bits`: the streams of 1 and 2 would be related. The counters are
    integers of any shape but (), not negative.
    """
    steps = counter.astype(np.uint64) * np.uint64(_GOLDEN_GAMMA)
    return _mix(np.add(key if isinstance(key, np.ndarray) else np.uint64(key), steps))


def uniform(bits: np.ndarray) -> np.ndarray:
    """float64 in [0, 1) from the upper 53 of uint64 `bits`."""
    return (bits >> np.uint64(11)) * 2.0**-53


def uniform_below(bits: np.ndarray, bound: Any) -> np.ndarray:
    """int64 uniform in 0 .. bound - 1 from uint64 `bits`; `bound`, at most 2**53, broadcasts."""
    return (uniform(bits) * bound).astype(np.int64)


def coin(bits: np.ndarray) -> np.ndarray:
    """bool, true with probability 1/2, from the lowest bit of uint64 `bits`."""
    return (bits & np.uint64(1)).astype(bool)


def coin_sum(key: int, count: np.ndarray) -> np.ndarray:
    """Binomial(count, 1/2): an independent draw, int64 [n], for each entry of int64 [n] `count`.

    The key comes from `derive_key`.
    """
    # Each word of a stream is 64 coins, of which the last word of an entry uses only some.
    words = (count + 63) // 64
    first = np.cumsum(words) - words
    bits = random_bits(key, np.arange(words.sum()))
    last = (first + words - 1)[words > 0]
    surplus = (64 * words - count)[words > 0].astype(np.uint64)
    bits[last] >>= surplus
    heads = np.concatenate([[0], np.cumsum(np.bitwise_count(bits), dtype=np.int64)])
    return heads[first + words] - heads[first]


def permute(index: np.ndarray, size: int, key: int) -> np.ndarray:
    """Where a random permutation of 0 .. size - 1 sends integers [n] `index`: int64 [n].

    The key, from `derive_key`, chooses the permutation; `size` is 1 to 2**62, and nothing of that
    length is built. A Feistel network permutes the next power of four; an output beyond `size` is
    sent through again until it falls inside ("cycle walking": Black and Rogaway, "Ciphers with
    arbitrary finite domains", CT-RSA 2002), fewer than four times on average.
    """
    half_bits = max(1, (int(size - 1).bit_length() + 1) // 2)
    shift, low = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    result = index.astype(np.uint64)
    outside = np.arange(len(result))
    while len(outside):
        values = result[outside]
        left, right = values >> shift, values & low
        for step in range(_FEISTEL_ROUNDS):
            # The high bits of the mixer's output are its best.
            scrambled = random_bits(key, right | np.uint64(step << 32)) >> np.uint64(64 - half_bits)
            left, right = right, left ^ scrambled
        result[outside] = (left << shift) | right
        outside = outside[result[outside] >= np.uint64(size)]
    return result.astype(np.int64)
