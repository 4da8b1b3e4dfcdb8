"""Dropout whose random bits cost a few integer operations and no memory.

An element's bits are a hash of (key, position of the element), computed where they are used: the
compiler fuses them into the neighbouring operations, in the backward pass as well, so no mask is
ever stored. They depend on the position in the whole array, and so not on the mesh.

The hash mixes well, but it is no cryptographic generator as jax's own threefry is. Where that is
acceptable, and what it saves: docs/decisions/dropout-bits.md.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp


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


def random_bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """uint32 `shape`: a hash of `key` and each element's position.

    Args:
      key: a typed random key of jax.
      shape: all axes but the last make at most 2**32 rows.
    """
    words = jax.random.key_data(key).reshape(-1)[-2:]
    row = jnp.zeros((*shape[:-1], 1), jnp.uint32)
    for axis, size in enumerate(shape[:-1]):
        row = row * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, row.shape, axis)
    # Rows are hashed twice, with a word of the key each time; an element costs one hash more.
    row = _mix(_mix(row ^ words[0]) + words[1])
    column = jax.lax.broadcasted_iota(jnp.uint32, shape, len(shape) - 1)
    return _mix(row + column * jnp.uint32(0x9E3779B9))  # 2**32 over the golden ratio


def keep_scale(key: jax.Array, shape: tuple[int, ...], rate: float) -> jax.Array:
    """float32 `shape`: 0 with probability `rate` (exact to 2**-32), else 1 / (1 - rate)."""
    keep = random_bits(key, shape) >= jnp.uint32(min(round(rate * 2**32), 2**32 - 1))
    return jnp.where(keep, jnp.float32(1 / (1 - rate)), jnp.float32(0))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def dropout(x: jax.Array, key: jax.Array, rate: float) -> jax.Array:
    """x times `keep_scale`; the backward pass computes the same factors again.

    Args:
      x: float [...].
      key: a typed random key of jax.
      rate: share of elements that become 0, in [0, 1).
    """
    return (x * keep_scale(key, x.shape, rate)).astype(x.dtype)


dropout.defvjp(
    lambda x, key, rate: (dropout(x, key, rate), key),
    lambda rate, key, gradient: (dropout(gradient, key, rate), None),
)


class Dropout(nn.Module):
    """`dropout` with a key of its own; needs the rng "dropout" unless `deterministic`."""

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """x: float [...] -> the same shape and dtype."""
        if deterministic or self.rate == 0.0:
            return x
        return dropout(x, self.make_rng("dropout"), self.rate)
