"""The losses of fine-tuning by name, each computed from logits and a batch."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from bert_jax.models.task_heads import present_choices
from bert_jax.objectives import losses
from bert_jax.objectives.losses import Sum, binary_divergence, divergence
from bert_jax.objectives.objective import Batch

# (logits, batch, label smoothing) -> the loss as (sum, weight).
Loss = Callable[[jax.Array, Batch, float], Sum]
# (logits, other logits of the same batch) -> how far apart they are, in the shape of the weights.
Divergence = Callable[[jax.Array, jax.Array], jax.Array]


class Criterion(NamedTuple):
    """A loss, and how far apart two outputs are, for R-Drop."""

    loss: Loss
    divergence: Divergence = divergence


def _of_labels(loss: Callable[..., Sum]) -> Loss:
    return lambda logits, batch, smoothing: loss(
        logits, batch["labels"], batch["weights"], smoothing
    )


def _choice_cross_entropy(logits: jax.Array, batch: Batch, smoothing: float) -> Sum:
    labels, weights = batch["labels"], batch["weights"]
    return losses.cross_entropy(logits, labels, weights, smoothing, present_choices(batch))


def _sentence_cross_entropy(logits: jax.Array, batch: Batch, smoothing: float) -> Sum:
    labels, weights = batch["labels"][..., None], batch["weights"]
    return losses.binary_cross_entropy(logits[..., None], labels, weights, smoothing)


def _span_cross_entropy(logits: jax.Array, batch: Batch, smoothing: float) -> Sum:
    del smoothing
    labels, weights = batch["labels"], batch["weights"]
    return losses.span_cross_entropy(logits, labels, weights, batch["attention_mask"])


CRITERIA = {
    "cross_entropy": Criterion(_of_labels(losses.cross_entropy)),  # of mutually exclusive classes
    "choice_cross_entropy": Criterion(_choice_cross_entropy),  # of choices, some perhaps absent
    "binary_cross_entropy": Criterion(_of_labels(losses.binary_cross_entropy), binary_divergence),
    "sentence_cross_entropy": Criterion(_sentence_cross_entropy),  # of a score for each sentence
    "squared_error": Criterion(_of_labels(losses.squared_error)),
    "span_cross_entropy": Criterion(_span_cross_entropy),
}
