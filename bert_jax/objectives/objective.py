"""What the loop, the dry run and the compiler know of an objective: everything that is trained."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from bert_jax.objectives.losses import Sum

Batch = dict[str, jax.Array]
Shapes = dict[str, jax.ShapeDtypeStruct]


class BatchSize(NamedTuple):
    """What the shapes of a batch follow from.

    Attributes:
      rows: B.
      length: tokens of a row, L.
      predictions: slots for predictions in a row, K.
      packed: a row holds several sequences.
    """

    rows: int
    length: int
    predictions: int = 1
    packed: bool = False


class Keys(NamedTuple):
    """The typed random keys of a batch.

    Attributes:
      sampling: for what an objective draws, in training and in evaluation.
      dropout: None evaluates without dropout.
    """

    sampling: jax.Array
    dropout: jax.Array | None = None


def training_keys(key: jax.Array) -> Keys:
    """The keys of a step, or of a micro-batch, from a random key of its own."""
    return Keys(jax.random.fold_in(key, 1), key)


def evaluation_keys(number: int | jax.Array) -> Keys:
    """The keys of a held-out batch: the same in every evaluation, other ones for each batch.

    Args:
      number: of the batch.
    """
    return Keys(jax.random.fold_in(jax.random.key(0), number))


class Metric(NamedTuple):
    """How a metric is shown.

    Attributes:
      title: what it is called in pictures and summaries.
      of_a_constant: what a constant answer reaches; None where that depends on the data.
    """

    title: str
    of_a_constant: float | None = None


class Objective(Protocol):
    """What is trained: see `pretraining.PretrainingObjective`."""

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Those of `sums`, in the order in which they are shown."""

    def __hash__(self) -> int:
        """Compiled steps are kept by it."""

    def batch_shapes(self, size: BatchSize) -> Shapes:
        """What a batch holds."""

    def init(self, key: jax.Array) -> Any:
        """Fresh parameters, boxed with logical axis names."""

    def loss_weights(self, batch: Batch) -> dict[str, jax.Array]:
        """What the sum of each loss is divided by; the keys name the losses that are added up."""

    def sums(self, params: Any, batch: Batch, keys: Keys) -> dict[str, Sum]:
        """Losses and other metrics of a batch as (sum, weight)."""


def zeros(shapes: Shapes) -> Batch:
    """A batch for a model's initialisation."""
    return {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}
