"""Losses and accuracies as (sum, weight), so that the division happens once, after every reduction.

B = batch, K = predictions per sequence, V = vocabulary size, C = classes.
"""

import jax
import jax.numpy as jnp

Sum = tuple[jax.Array, jax.Array]  # two float32 scalars: the weighted sum and the sum of weights


def cross_entropy(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> Sum:
    """Negative log-likelihood of `labels` in nats.

    Args:
      logits: float [..., C].
      labels: int [...], in [0, C).
      weights: float [...], 0 leaves an entry out.

    Returns:
      (sum of weight * nll, sum of weight), float32 scalars.
    """
    logits = logits.astype(jnp.float32)
    log_normalizer = jax.nn.logsumexp(logits, axis=-1)
    label_logits = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    return jnp.sum(weights * (log_normalizer - label_logits)), jnp.sum(weights)


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
