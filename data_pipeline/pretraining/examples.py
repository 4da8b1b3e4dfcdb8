"""Planned examples: where the tokens of each lie in a corpus."""

import numpy as np

# One example. Segment A is tokens[shard[0]][offset[0] : offset[0] + length[0]] and segment B the
# same with index 1; without pairs length[1] is 0. The label is that of the pair. The masks are
# drawn from the key, which no other example of any epoch has. All fields have eight bytes, so that
# an array of examples can be viewed as an int64 matrix.
EXAMPLE = np.dtype(
    [
        ("shard", np.int64, 2),
        ("offset", np.int64, 2),
        ("length", np.int64, 2),
        ("label", np.int64),
        ("key", np.uint64),
    ]
)
