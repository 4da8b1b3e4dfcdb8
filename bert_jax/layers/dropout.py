"""Dropout whose random bits cost a few integer operations and no memory.

An element's bits are a hash of the key and the element's position in the whole array, so they do
not depend on the mesh. They are computed where they are used: the compiler fuses them into the
neighbouring operations, in the backward pass too, and no mask is ever stored.

The hash mixes well but, unlike jax's own threefry, is not cryptographic. Where that is acceptable,
and what it saves: docs/decisions/dropout-bits.md.
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
    """A bijection of uint32 in which each bit of the input flips about half of the output's bits.

    The finalizer of MurmurHash3 with the constants and shifts of C. Wellons' "lowbias32".
    """
    x ^= x >> 16
    x *= jnp.uint32(0x7FEB352D)
    x ^= x >> 15
    x *= jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def key_words(key: jax.Array) -> jax.Array:
    """uint32 [2]: the part of one of jax's typed random keys that the hash uses."""
    return jax.random.key_data(key).reshape(-1)[-2:]


def hash_rows(row: jax.Array, words: Sequence[jax.Array] | jax.Array) -> jax.Array:
    """uint32 as `row`: a hash of each row's number and both words of the key."""
    return _mix(_mix(row ^ words[0]) + words[1])


def spread_columns(column: jax.Array) -> jax.Array:
    """uint32: what `hash_elements` adds to a row, from the elements' positions in the row."""
    return column * _GOLDEN


def hash_elements(row: jax.Array, column: jax.Array) -> jax.Array:
    """uint32: the elements' bits, from `hash_rows` and `spread_columns` broadcast together."""
    return _mix(row + column)


def keep(bits: jax.Array, rate: float) -> jax.Array:
    """bool: False with probability `rate` (exact to 2**-32)."""
    return bits >= jnp.uint32(min(round(rate * 2**32), 2**32 - 1))


def random_bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """uint32 `shape`: a hash of `key` and each element's position, in at most 2**32 rows."""
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
    """x times `keep_scale`, with `rate` in [0, 1); the backward pass recomputes the factors."""
    return (x.astype(jnp.float32) * keep_scale(key, x.shape, rate)).astype(x.dtype)


dropout.defvjp(
    lambda x, key, rate: (dropout(x, key, rate), key),
    lambda rate, key, gradient: (dropout(gradient, key, rate), None),
)


class Dropout(nn.Module):
    """`dropout`, with a key from the rng "dropout", unless it is `deterministic`."""

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "*S"], deterministic: bool) -> Float[Array, "*S"]:
        if deterministic or self.rate == 0.0:
            return x
        return dropout(x, self.make_rng("dropout"), self.rate)
