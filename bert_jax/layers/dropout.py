"""Dropout whose random bits cost a few integer operations and no memory.

An element's bits are a hash of (key, position of the element), computed where they are used: the
compiler fuses them into the neighbouring operations, in the backward pass as well, so no mask is
ever stored. They depend on the position in the whole array, and so not on the mesh.

The hash mixes well, but it is no cryptographic generator as jax's own threefry is. Where that is
acceptable, and what it saves: docs/decisions/dropout-bits.md.
"""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

_GOLDEN = np.uint32(0x9E3779B9)  # 2**32 over the golden ratio


def _mix(x: jax.Array) -> jax.Array:
    """A bijection of uint32 in which each bit of the input changes about half of the output's.

    The finalizer of MurmurHash3 with the constants and shifts that C. Wellons' search for low bias
    found ("lowbias32").
    """
    x ^= x >> 16
    x *= jnp.uint32(0x7FEB352D)
    x ^= x >> 15
    x *= jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def key_words(key: jax.Array) -> jax.Array:
    """uint32 [2]: what the hash takes of a typed random key of jax."""
    return jax.random.key_data(key).reshape(-1)[-2:]


def hash_rows(row: jax.Array, words: Sequence[jax.Array] | jax.Array) -> jax.Array:
    """uint32 as `row`: a hash of each row's number, with a word of the key each of two times."""
    return _mix(_mix(row ^ words[0]) + words[1])


def spread_columns(column: jax.Array) -> jax.Array:
    """uint32 as `column`, the elements' positions in a row: what `hash_elements` adds to rows."""
    return column * _GOLDEN


def hash_elements(row: jax.Array, column: jax.Array) -> jax.Array:
    """uint32: the bits of elements, of `hash_rows` and `spread_columns` broadcast together."""
    return _mix(row + column)


def keep(bits: jax.Array, rate: float) -> jax.Array:
    """bool: False with probability `rate` (exact to 2**-32)."""
    return bits >= jnp.uint32(min(round(rate * 2**32), 2**32 - 1))


def random_bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """uint32 `shape`: a hash of `key` and each element's position.

    Args:
      key: a typed random key of jax.
      shape: all axes but the last make at most 2**32 rows.
    """
    row = jnp.zeros((*shape[:-1], 1), jnp.uint32)
    for axis, size in enumerate(shape[:-1]):
        row = row * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, row.shape, axis)
    column = jax.lax.broadcasted_iota(jnp.uint32, shape, len(shape) - 1)
    return hash_elements(hash_rows(row, key_words(key)), spread_columns(column))


def keep_scale(key: jax.Array, shape: tuple[int, ...], rate: float) -> jax.Array:
    """float32 `shape`: 0 with probability `rate`, else 1 / (1 - rate)."""
    kept = keep(random_bits(key, shape), rate)
    return jnp.where(kept, jnp.float32(1 / (1 - rate)), jnp.float32(0))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def dropout(x: Float[Array, "*S"], key: Key[Array, ""], rate: float) -> Float[Array, "*S"]:
    """x times `keep_scale`; the backward pass computes the same factors again.

    Args:
      x: of any shape.
      key: of the factors.
      rate: share of elements that become 0, in [0, 1).
    """
    return (x.astype(jnp.float32) * keep_scale(key, x.shape, rate)).astype(x.dtype)


dropout.defvjp(
    lambda x, key, rate: (dropout(x, key, rate), key),
    lambda rate, key, gradient: (dropout(gradient, key, rate), None),
)


class Dropout(nn.Module):
    """`dropout` with a key of its own; needs the rng "dropout" unless `deterministic`."""

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "*S"], deterministic: bool) -> Float[Array, "*S"]:
        """x in its own dtype, dropped unless `deterministic`."""
        if deterministic or self.rate == 0.0:
            return x
        return dropout(x, self.make_rng("dropout"), self.rate)
