"""Scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762) with dropout.

Legend of shapes: B batch, N heads, D head size, Q queries, L keys. Positions are the last axis of
queries, keys and values, so that no product needs a copy in another layout.

On a mesh of TPUs the kernel of `attention_tpu.py` computes this; elsewhere, and for sizes that the
kernel does not take, XLA compiles the formula below. For the backward pass the formula keeps the
probabilities before dropout, in the compute dtype, but neither scores nor mask. See
docs/decisions/step-speed.md.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from bert_jax.layers import attention_tpu
from bert_jax.layers.attention_mask import AttentionMask
from bert_jax.layers.dropout import dropout


def dot_product_attention(
    query: Float[Array, "B N D Q"],
    key: Float[Array, "B N D L"],
    value: Float[Array, "B N D L"],
    mask: AttentionMask,
    dropout_key: Key[Array, ""] | None,
    dropout_rate: float,
) -> Float[Array, "B N D Q"]:
    """softmax(query key / sqrt(D)) value, with dropout of the probabilities.

    Args:
      query: of the tokens that attend; the result has its dtype.
      key, value: of the tokens attended to; L is not Q with a prefix or queries of some positions.
      mask: of the keys; where L is not Q, its rule must not depend on the query.
      dropout_key: None without dropout.
      dropout_rate: share of the probabilities that become 0.
    """
    fits = key.shape == query.shape and attention_tpu.fits(query, jax.sharding.get_abstract_mesh())
    return attend(KERNEL if fits else FORMULA, query, key, value, mask, dropout_key, dropout_rate)


class Passes(NamedTuple):
    """A way to compute attention.

    Attributes:
      forward: the inputs of `dot_product_attention` -> (context, what the backward pass needs).
      backward: (what it needs, gradient of the context, dropout rate) -> the gradients of query,
        key and value.
    """

    forward: Callable[..., tuple[jax.Array, Any]]
    backward: Callable[..., tuple[jax.Array, jax.Array, jax.Array]]


@partial(jax.custom_vjp, nondiff_argnums=(0, 6))
def attend(
    passes: Passes,
    query: Float[Array, "B N D Q"],
    key: Float[Array, "B N D L"],
    value: Float[Array, "B N D L"],
    mask: AttentionMask,
    dropout_key: Key[Array, ""] | None,
    dropout_rate: float,
) -> Float[Array, "B N D Q"]:
    """`dot_product_attention`, computed by the given passes."""
    return passes.forward(query, key, value, mask, dropout_key, dropout_rate)[0]


attend.defvjp(
    lambda passes, *inputs: passes.forward(*inputs),
    lambda passes, rate, saved, gradient: (*passes.backward(saved, gradient, rate), None, None),
)


def _forward(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: AttentionMask,
    dropout_key: jax.Array | None,
    dropout_rate: float,
) -> tuple[jax.Array, Any]:
    query = query * query.shape[2] ** -0.5
    scores = jnp.einsum("bndq,bndk->bnqk", query, key, preferred_element_type=jnp.float32)
    scores += mask.penalties()  # (B, N, Q, L), float32
    probabilities = jax.nn.softmax(scores, axis=-1).astype(query.dtype)
    dropped = _dropped(probabilities, dropout_key, dropout_rate)
    context = jnp.einsum("bnqk,bndk->bndq", dropped, value)
    return context, (query, key, value, probabilities, context, dropout_key)


def _dropped(x: jax.Array, dropout_key: jax.Array | None, rate: float) -> jax.Array:
    return x if dropout_key is None else dropout(x, dropout_key, rate)


def _backward(
    saved: Any, gradient: jax.Array, dropout_rate: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    query, key, value, probabilities, context, dropout_key = saved
    ddropped = jnp.einsum("bndq,bndk->bnqk", gradient, value, preferred_element_type=jnp.float32)
    dprobabilities = _dropped(ddropped, dropout_key, dropout_rate)
    # The row sums of probabilities times their gradients equal those of the context times its
    # gradient, which are smaller arrays.
    sums = jnp.sum(gradient.astype(jnp.float32) * context.astype(jnp.float32), axis=2)
    dscores = probabilities.astype(jnp.float32) * (dprobabilities - sums[..., None])
    # Two products use it: it is computed once.
    dscores = jax.lax.optimization_barrier(dscores.astype(query.dtype))
    dquery = jnp.einsum("bnqk,bndk->bndq", dscores, key) * query.shape[2] ** -0.5
    dkey = jnp.einsum("bnqk,bndq->bndk", dscores, query)
    dropped = _dropped(probabilities, dropout_key, dropout_rate)
    dvalue = jnp.einsum("bnqk,bndq->bndk", dropped, gradient)
    return dquery, dkey, dvalue


FORMULA = Passes(_forward, _backward)
KERNEL = Passes(attention_tpu.forward, attention_tpu.backward)
