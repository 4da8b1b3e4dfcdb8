"""Layer normalisation (arXiv:1607.06450) with statistics in float32 and its own backward pass.

The backward pass reads each row once, for two reductions; jax's own derivative has a third one, of
a sum that is always zero: see docs/decisions/step-speed.md.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from bert_jax.layers.arrays import AnyArray


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_norm(
    x: Float[Array, "*S H"],
    scale: Float32[AnyArray, " H"],
    bias: Float32[AnyArray, " H"],
    epsilon: float,
) -> Float[Array, "*S H"]:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the last axis, in x's dtype."""
    return _forward(x, scale, bias, epsilon)[0]


def _forward(
    x: jax.Array, scale: AnyArray, bias: AnyArray, epsilon: float
) -> tuple[jax.Array, Any]:
    values = x.astype(jnp.float32)
    mean = jnp.mean(values, axis=-1, keepdims=True)
    if x.dtype == jnp.float32:
        # E[x^2] - E[x]^2 would lose digits that the original's formula keeps.
        variance = jnp.mean(jnp.square(values - mean), axis=-1, keepdims=True)
    else:  # x lacks those digits; one pass over it computes both moments
        variance = jnp.mean(values * values, axis=-1, keepdims=True) - mean * mean
    inverse = jax.lax.rsqrt(jnp.maximum(variance, 0) + epsilon)
    y = (values - mean) * (inverse * scale) + bias
    return y.astype(x.dtype), (x, mean, inverse, scale)


def _backward(epsilon: float, saved: Any, gradient: jax.Array) -> Any:
    del epsilon
    x, mean, inverse, scale = saved
    normalized = (x.astype(jnp.float32) - mean) * inverse
    gradient = gradient.astype(jnp.float32)
    scaled = gradient * scale
    dx = inverse * (
        scaled
        - jnp.mean(scaled, axis=-1, keepdims=True)
        - normalized * jnp.mean(scaled * normalized, axis=-1, keepdims=True)
    )
    # The residual and the layer before both use it: it is computed once.
    dx = jax.lax.optimization_barrier(dx.astype(x.dtype))
    rows = tuple(range(x.ndim - 1))
    return dx, jnp.sum(gradient * normalized, rows), jnp.sum(gradient, rows)


layer_norm.defvjp(_forward, _backward)
