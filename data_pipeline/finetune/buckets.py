"""Batches of examples of similar length, so that short ones need little padding.

A batch is padded to the boundary of a bucket and not to its own longest example, since each shape
is compiled once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.keyed_random import derive_key, permute

_EXAMPLES, _BATCHES = 32, 33  # the purposes of keys: see derive_key


class BucketBatch(NamedTuple):
    """The indices of its examples, int64 [n], and the boundary that they are padded to."""

    indices: np.ndarray
    length: int


def bucket_boundaries(longest: int) -> tuple[int, ...]:
    """32 and its doubles below `longest`, and `longest`.

    >>> bucket_boundaries(384)
    (32, 64, 128, 256, 384)
    """
    boundaries, boundary = [], 32
    while boundary < longest:
        boundaries.append(boundary)
        boundary *= 2
    return (*boundaries, longest)


def fitted_boundaries(
    lengths: np.ndarray, longest: int, *, epochs: int, price: int, number: int = 12, step: int = 4
) -> tuple[int, ...]:
    """The boundaries that cost least in padding and `price`, if no batch mixes buckets.

    Args:
      lengths: integer [N], tokens of each example, at most `longest`.
      longest: the greatest possible boundary.
      epochs: how often each example is read.
      price: tokens of padding that each boundary must save in all epochs, to pay for its
        compilation.
      number: the most boundaries.
      step: boundaries are multiples of it, or `longest`.

    >>> fitted_boundaries(np.array([5, 6, 7, 30, 31, 60]), longest=100, epochs=3, price=200)
    (8, 60)
    """
    places = np.minimum(-(-lengths // step) * step, longest)
    ends, counts = np.unique(places, return_counts=True)
    # up_to[i]: examples below the i-th candidate.
    up_to = np.concatenate([[0], np.cumsum(counts)])
    # cost[i, j]: of one bucket with the examples from the i-th candidate to the j-th.
    cost = np.where(
        np.arange(len(ends))[:, None] <= np.arange(len(ends)),
        (up_to[1:] - up_to[:-1, None]) * ends * epochs + price,
        np.inf,
    )
    least, chosen = cost[0], [(int(end),) for end in ends]
    for _ in range(min(number, len(ends)) - 1):
        # The least cost with one more bucket, from the candidate after some i to the j-th.
        with_last = least[:-1, None] + cost[1:]
        before = with_last.argmin(axis=0)
        better = with_last.min(axis=0) < least
        least = np.where(better, with_last.min(axis=0), least)
        chosen = [
            (*chosen[before[j]], int(end)) if better[j] else chosen[j] for j, end in enumerate(ends)
        ]
    return chosen[-1]


def bucket_batches(
    lengths: np.ndarray, boundaries: Sequence[int], *, batch_size: int, seed: int, epoch: int
) -> list[BucketBatch]:
    """The batches of an epoch, with every example once: a pure function of the arguments.

    Boundaries increase, and no example is longer than the last. Only `seed` and `epoch` decide
    the order.

    The examples, of `lengths` tokens (integer [N], at least 1), are shuffled, then divided into
    buckets by length. Examples left over from a bucket join the next longer one, so that all
    batches have `batch_size` examples but one, of the longest bucket in use, which has the rest. If
    the caller fills that one up, there are at most as many shapes as boundaries. The batches are
    then shuffled.
    """
    if batch_size < 1:
        raise DataError(f"batch size {batch_size} is not positive; change it")
    if not boundaries or min(np.diff(boundaries, prepend=0)) < 1:
        raise DataError(f"length buckets {tuple(boundaries)} must be positive and increase")
    if not len(lengths):
        return []
    if lengths.max() > boundaries[-1]:
        raise DataError(
            f"an example has {lengths.max()} tokens, the last length bucket ends at "
            f"{boundaries[-1]}; cut the example or add a bucket"
        )
    shuffled = permute(np.arange(len(lengths)), len(lengths), derive_key(seed, _EXAMPLES, epoch))
    bucket = np.searchsorted(boundaries, lengths[shuffled])
    batches = []
    left = shuffled[:0]
    last = int(bucket.max())
    for number, boundary in enumerate(boundaries[: last + 1]):
        members = np.concatenate([left, shuffled[bucket == number]])
        end = len(members) if number == last else len(members) // batch_size * batch_size
        left = members[end:]
        batches += [
            BucketBatch(members[first : min(first + batch_size, end)], int(boundary))
            for first in range(0, end, batch_size)
        ]
    order = permute(np.arange(len(batches)), len(batches), derive_key(seed, _BATCHES, epoch))
    return [batches[index] for index in order]


def padding_share(lengths: np.ndarray, batches: Sequence[BucketBatch]) -> float:
    """Share of padding in the batches; `lengths` as in `bucket_batches`."""
    places = sum(len(batch.indices) * batch.length for batch in batches)
    tokens = sum(int(lengths[batch.indices].sum()) for batch in batches)
    return 1 - tokens / places if places else 0.0
