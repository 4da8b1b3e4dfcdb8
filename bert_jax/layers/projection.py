"""Dense layers from [B, L, H] to [B, H, L], the layout of `attention.py`, and back.

The backward passes order their operations so that a TPU needs neither a copy in another layout nor
sums along the lanes of its registers. See docs/decisions/step-speed.md.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_vjp
def to_positions_last(
    x: Float[Array, "B L I"], kernel: Float[Array, "I H"], bias: Float[Array, " H"]
) -> Float[Array, "B H L"]:
    """x kernel + bias, transposed."""
    return jnp.einsum("bli,ih->bhl", x, kernel) + bias[:, None]


def _to_backward(saved: Any, gradient: jax.Array) -> Any:
    x, kernel = saved
    dx = jnp.einsum("bhl,ih->bli", gradient, kernel)
    dkernel = jnp.einsum("bli,bhl->ih", x, gradient)
    return dx, dkernel, _sum(gradient)


def _sum(x: jax.Array) -> jax.Array:
    """[B, H, L] -> [H], the sums over sequences and positions, added up in float32."""
    # A product with ones has the matrix unit add along lanes. Its columns fill a register's rows:
    # the compiler would turn a product with a single column back into a sum.
    ones = jnp.ones((x.shape[0], x.shape[2], 8), x.dtype)
    sums = jnp.einsum(
        "bhl,blo->ho", x, ones, preferred_element_type=jnp.float32, precision="highest"
    )
    return sums[:, 0].astype(x.dtype)


to_positions_last.defvjp(
    lambda x, kernel, bias: (to_positions_last(x, kernel, bias), (x, kernel)), _to_backward
)


@jax.custom_vjp
def from_positions_last(
    x: Float[Array, "B H L"], kernel: Float[Array, "H O"], bias: Float[Array, " O"]
) -> Float[Array, "B L O"]:
    """(x transposed) kernel + bias."""
    return jnp.einsum("bhl,ho->blo", x, kernel) + bias


def _from_backward(saved: Any, gradient: jax.Array) -> Any:
    x, kernel = saved
    # The transposed kernel makes positions the last axis of the product itself.
    dx = jnp.einsum("blo,oh->bhl", gradient, kernel.T)
    dkernel = jnp.einsum("bhl,blo->ho", x, gradient)
    return dx, dkernel, jnp.sum(gradient, axis=(0, 1))


from_positions_last.defvjp(
    lambda x, kernel, bias: (from_positions_last(x, kernel, bias), (x, kernel)), _from_backward
)
