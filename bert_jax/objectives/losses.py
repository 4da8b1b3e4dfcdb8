"""Losses and accuracies as (sum, weight), so that the division happens once, after every reduction.

Losses and accuracies are the sum of weight * value and the sum of the weights; a weight of 0 leaves
an entry out. Cross-entropies and divergences are in nats. B = batch, L = length, C = classes.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int

from bert_jax.layers.arrays import AnyArray

# The weighted sum and the sum of weights.
Sum = tuple[Float32[Array, ""], Float32[Array, ""]]


def cross_entropy(
    logits: Float[Array, "*S C"],
    labels: Int[AnyArray, "*S"],
    weights: Float[AnyArray, "*S"],
    smoothing: float = 0.0,
    present: Bool[AnyArray, "*S C"] | None = None,
) -> Sum:
    """Negative log-likelihood of `labels`, which are in [0, C).

    Args:
      smoothing: this share of each target is spread evenly over all classes (arXiv:1512.00567,
        section 7).
      present: the classes that it is spread over, where an entry has fewer than C; the logits of
        the others must be so low that they count for nothing.
    """
    logits = logits.astype(jnp.float32)
    log_normalizer = jax.nn.logsumexp(logits, axis=-1)
    label_logits = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    target = label_logits
    if smoothing:
        target = (1 - smoothing) * label_logits + smoothing * _mean(logits, present)
    return jnp.sum(weights * (log_normalizer - target)), jnp.sum(weights)


def _mean(logits: jax.Array, present: AnyArray | None) -> jax.Array:
    """Mean of the present logits over the last axis; 0 where none is present."""
    if present is None:
        return jnp.mean(logits, axis=-1)
    total = jnp.sum(jnp.where(present, logits, 0.0), axis=-1)
    return total / jnp.maximum(jnp.sum(present, axis=-1, dtype=jnp.float32), 1)


def binary_cross_entropy(
    logits: Float[Array, "*S C"],
    labels: Float[AnyArray, "*S C"],
    weights: Float[AnyArray, "*S"],
    smoothing: float = 0.0,
) -> Sum:
    """Negative log-likelihood of independent labels, 0 or 1, averaged over the classes.

    `smoothing` is that of `cross_entropy` with two classes: it moves labels towards 1/2.
    """
    logits = logits.astype(jnp.float32)
    labels = (1 - smoothing) * labels + smoothing / 2
    nll = jax.nn.softplus(logits) - labels * logits
    return jnp.sum(weights * jnp.mean(nll, axis=-1)), jnp.sum(weights)


def divergence(first: Float[Array, "*S C"], second: Float[Array, "*S C"]) -> Float[Array, "*S"]:
    """Half the sum of the Kullback-Leibler divergences of two softmaxes in both directions.

    Both arguments are logits. R-Drop (arXiv:2106.14448), section 2.2.
    """
    p, q = jax.nn.log_softmax(first), jax.nn.log_softmax(second)
    return jnp.sum((jnp.exp(p) - jnp.exp(q)) * (p - q), axis=-1) / 2


def binary_divergence(
    first: Float[Array, "*S C"], second: Float[Array, "*S C"]
) -> Float[Array, "*S"]:
    """`divergence` of independent yes-or-no outputs, averaged over classes as in their loss."""
    # Summed over both directions, p log(p / q) + (1 - p) log((1 - p) / (1 - q)) is p - q times the
    # difference of the logits.
    p, q = jax.nn.sigmoid(first), jax.nn.sigmoid(second)
    return jnp.mean((p - q) * (first - second), axis=-1) / 2


def squared_error(
    outputs: Float[Array, "*S 1"],
    labels: Float[AnyArray, "*S"],
    weights: Float[AnyArray, "*S"],
    smoothing: float = 0.0,
) -> Sum:
    """Squared difference of one output and a number; `smoothing` has no meaning for numbers."""
    del smoothing
    difference = outputs[..., 0].astype(jnp.float32) - labels
    return jnp.sum(weights * difference**2), jnp.sum(weights)


def span_cross_entropy(
    logits: Float[Array, "B L 2"],
    labels: Int[AnyArray, "B 2"],
    weights: Float[AnyArray, " B"],
    attention_mask: Int[AnyArray, "B L"],
) -> Sum:
    """Mean of the negative log-likelihoods of where a span starts and where it ends, in [0, L).

    As in the original's `run_squad.py`, except that padding, 0 in `attention_mask`, cannot be
    chosen, so that the loss does not depend on how long a batch is.
    """
    logits = jnp.where(attention_mask[..., None] > 0, logits.astype(jnp.float32), -1e9)
    both = jnp.broadcast_to(weights[:, None], labels.shape)
    total, _ = cross_entropy(jnp.swapaxes(logits, 1, 2), labels, both)  # of [B, 2, L]
    return total / 2, jnp.sum(weights)


def accuracy(
    logits: Float[Array, "*S C"], labels: Int[AnyArray, "*S"], weights: Float[AnyArray, "*S"]
) -> Sum:
    """Share of entries whose label, in [0, C), has the largest logit (a tie counts as correct)."""
    # The label's logit against the maximum: on a CPU, argmax alone takes longer than the loss.
    label_logits = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    correct = (label_logits >= jnp.max(logits, axis=-1)).astype(jnp.float32)
    return jnp.sum(weights * correct), jnp.sum(weights)
