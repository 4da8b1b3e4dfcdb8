"""Planned examples: where the tokens of each lie in a corpus."""

from typing import NamedTuple

import numpy as np

# One example. Segment A is tokens[shard[0]][offset[0] : offset[0] + length[0]] and segment B the
# same with index 1; without pairs length[1] is 0. The label is that of the pair. The key, from
# which masks are drawn, differs from that of every other example of every epoch. All fields have
# eight bytes, so that an array of examples is also an int64 matrix.
EXAMPLE = np.dtype(
    [
        ("shard", np.int64, 2),
        ("offset", np.int64, 2),
        ("length", np.int64, 2),
        ("label", np.int64),
        ("key", np.uint64),
    ]
)


class Stretches(NamedTuple):
    """The T stretches of text of B examples, example after example.

    Attributes:
      counts: int64 [B], stretches of each example, at least one.
      shard, offset, length: int64 [T], tokens[offset : offset + length] of a shard.
    """

    counts: np.ndarray
    shard: np.ndarray
    offset: np.ndarray
    length: np.ndarray
