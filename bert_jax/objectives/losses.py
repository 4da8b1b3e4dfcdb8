"""Losses and accuracies as (sum, weight), so that the division happens once, after every reduction.

B = batch, K = predictions per sequence, V = vocabulary size, C = classes.
"""

import jax
import jax.numpy as jnp

Sum = tuple[jax.Array, jax.Array]  # two float32 scalars: the weighted sum and the sum of weights


def cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
    smoothing: float = 0.0,
    present: jax.Array | None = None,
) -> Sum:
    """Negative log-likelihood of `labels` in nats.

    Args:
      logits: float [..., C].
      labels: int [...], in [0, C).
      weights: float [...], 0 leaves an entry out.
      smoothing: this share of each target is spread evenly over all classes (arXiv:1512.00567,
        section 7).
      present: bool [..., C], over which of them it is spread where an entry has fewer than C; the
        logits of the others must be so low that they count for nothing.

    Returns:
      (sum of weight * nll, sum of weight), float32 scalars.
    """
    logits = logits.astype(jnp.float32)
    log_normalizer = jax.nn.logsumexp(logits, axis=-1)
    label_logits = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    target = label_logits
    if smoothing:
        target = (1 - smoothing) * label_logits + smoothing * _mean(logits, present)
    return jnp.sum(weights * (log_normalizer - target)), jnp.sum(weights)


def _mean(logits: jax.Array, present: jax.Array | None) -> jax.Array:
    """Mean over the last axis, of those present; 0 where none is."""
    if present is None:
        return jnp.mean(logits, axis=-1)
    total = jnp.sum(jnp.where(present, logits, 0.0), axis=-1)
    return total / jnp.maximum(jnp.sum(present, axis=-1), 1)


def binary_cross_entropy(
    logits: jax.Array, labels: jax.Array, weights: jax.Array, smoothing: float = 0.0
) -> Sum:
    """Negative log-likelihood of independent yes-or-no labels in nats, their mean over classes.

    Args:
      logits: float [..., C].
      labels: float [..., C], 0 or 1.
      weights: float [...], 0 leaves an entry out.
      smoothing: labels become this much closer to 1/2, as 2 classes of `cross_entropy`.

    Returns:
      (sum of weight * nll, sum of weight), float32 scalars.
    """
    logits = logits.astype(jnp.float32)
    labels = (1 - smoothing) * labels + smoothing / 2
    nll = jax.nn.softplus(logits) - labels * logits
    return jnp.sum(weights * jnp.mean(nll, axis=-1)), jnp.sum(weights)


def divergence(first: jax.Array, second: jax.Array) -> jax.Array:
    """Half the sum of the Kullback-Leibler divergences of two softmaxes in both directions, nats.

    Section 2.2 of R-Drop (arXiv:2106.14448).

    Args:
      first, second: logits, float [..., C].

    Returns:
      float [...].
    """
    p, q = jax.nn.log_softmax(first), jax.nn.log_softmax(second)
    return jnp.sum((jnp.exp(p) - jnp.exp(q)) * (p - q), axis=-1) / 2


def binary_divergence(first: jax.Array, second: jax.Array) -> jax.Array:
    """`divergence` of independent yes-or-no outputs, the mean over classes as in their loss.

    Args:
      first, second: logits, float [..., C].

    Returns:
      float [...].
    """
    # The logarithms' part of p log(p / q) + (1 - p) log((1 - p) / (1 - q)), both directions summed,
    # is the difference of the logits.
    p, q = jax.nn.sigmoid(first), jax.nn.sigmoid(second)
    return jnp.mean((p - q) * (first - second), axis=-1) / 2


def squared_error(
    outputs: jax.Array, labels: jax.Array, weights: jax.Array, smoothing: float = 0.0
) -> Sum:
    """Squared difference of one output and a number.

    Args:
      outputs: float [..., 1].
      labels: float [...].
      weights: float [...], 0 leaves an entry out.
      smoothing: has no meaning for numbers and no effect.

    Returns:
      (sum of weight * squared difference, sum of weight), float32 scalars.
    """
    del smoothing
    difference = outputs[..., 0].astype(jnp.float32) - labels
    return jnp.sum(weights * difference**2), jnp.sum(weights)


def span_cross_entropy(
    logits: jax.Array, labels: jax.Array, weights: jax.Array, attention_mask: jax.Array
) -> Sum:
    """Negative log-likelihood of where a span starts and where it ends in nats, their mean.

    As in the original's `run_squad.py`, but for padding, which cannot be chosen: so the loss does
    not depend on how long a batch is.

    Args:
      logits: float [B, L, 2], of start and end.
      labels: int [B, 2], positions in [0, L).
      weights: float [B], 0 leaves a row out.
      attention_mask: int [B, L], 0 for padding.

    Returns:
      (sum of weight * nll, sum of weight), float32 scalars.
    """
    logits = jnp.where(attention_mask[..., None] > 0, logits.astype(jnp.float32), -1e9)
    both = jnp.broadcast_to(weights[:, None], labels.shape)
    total, _ = cross_entropy(jnp.swapaxes(logits, 1, 2), labels, both)  # of [B, 2, L]
    return total / 2, jnp.sum(weights)


def accuracy(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> Sum:
    """Share of entries whose label has the largest logit (a tie counts as correct).

    Args:
      logits: float [..., C].
      labels: int [...].
      weights: float [...], 0 leaves an entry out.

    Returns:
      (sum of weight * correct, sum of weight), float32 scalars.
    """
    # The label's logit against the maximum: on a CPU argmax alone takes longer than the loss.
    label_logits = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    correct = (label_logits >= jnp.max(logits, axis=-1)).astype(jnp.float32)
    return jnp.sum(weights * correct), jnp.sum(weights)
