"""GELU (arXiv:1606.08415), which computes its derivative too and keeps it for the backward pass.

Both need the same exponential or tanh: see docs/decisions/step-speed.md.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def gelu(x: Float[Array, "*S"], approximate: bool) -> Float[Array, "*S"]:
    """x times the normal distribution function of x.

    Computed in float32 and returned in the dtype of x. `approximate` chooses the form with tanh
    instead of the exact one.
    """
    return _gelu_and_derivative(x, approximate)[0]


def _gelu_and_derivative(x: jax.Array, approximate: bool) -> tuple[jax.Array, jax.Array]:
    dtype, x = x.dtype, x.astype(jnp.float32)
    if approximate:
        slope, cubic = math.sqrt(2 / math.pi), 0.044715 * math.sqrt(2 / math.pi)
        square = x * x
        tanh = jnp.tanh(x * (slope + cubic * square))
        cdf = 0.5 + 0.5 * tanh
        derivative = cdf + x * (0.5 - 0.5 * tanh * tanh) * (slope + 3 * cubic * square)
    else:
        exponential = jnp.exp(-0.5 * x * x)
        cdf = _normal_cdf(x, exponential, exact=dtype == jnp.float32)
        derivative = cdf + x * exponential * (1 / math.sqrt(2 * math.pi))
    return (x * cdf).astype(dtype), derivative.astype(dtype)


def _normal_cdf(x: jax.Array, exponential: jax.Array, exact: bool) -> jax.Array:
    """The normal distribution function; `exponential` is exp(-x**2 / 2).

    For a result rounded to bfloat16 (2**-9), formula 7.1.25 of Abramowitz and Stegun for erf is
    enough: its error is below 2.5e-5.
    """
    if exact:
        return 0.5 * (1 + jax.lax.erf(x * math.sqrt(0.5)))
    t = 1 / (1 + (0.47047 * math.sqrt(0.5)) * jnp.abs(x))
    tail = 0.5 * t * (0.3480242 + t * (-0.0958798 + t * 0.7478556)) * exponential
    return jnp.where(x > 0, 1 - tail, tail)


gelu.defvjp(_gelu_and_derivative, lambda _, derivative, gradient: (gradient * derivative,))
