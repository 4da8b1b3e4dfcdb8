"""The interface of an objective, which is all that the loop, dry run and compiler know of it."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from bert_jax.objectives.losses import Sum

Batch = dict[str, jax.Array]
Shapes = dict[str, jax.ShapeDtypeStruct]


class BatchSize(NamedTuple):
    """What determines the shapes of a batch."""

    rows: int
    length: int  # tokens in a row
    predictions: int = 1  # slots for predictions in a row
    packed: bool = False  # rows hold several sequences


class Keys(NamedTuple):
    """The typed random keys of a batch."""

    sampling: jax.Array  # for what an objective draws, in training and in evaluation
    dropout: jax.Array | None = None  # None: no dropout, as in evaluation


def training_keys(key: jax.Array) -> Keys:
    """The keys of a step or of a micro-batch, from its own random key."""
    return Keys(jax.random.fold_in(key, 1), key)


def evaluation_keys(number: int | jax.Array) -> Keys:
    """The keys of a held-out batch, which depend on its number alone."""
    return Keys(jax.random.fold_in(jax.random.key(0), number))


class Metric(NamedTuple):
    """How a metric is shown."""

    title: str  # in plots and summaries
    of_a_constant: float | None = None  # what a constant answer scores, if it is known


class Objective(Protocol):
    """What is trained: see `pretraining.PretrainingObjective`."""

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Those of `sums`, in the order in which they are shown."""

    def __hash__(self) -> int:
        """Compiled steps are cached by it."""

    def batch_shapes(self, size: BatchSize) -> Shapes:
        """Shapes and dtypes of a batch."""

    def init(self, key: jax.Array) -> Any:
        """Fresh parameters, boxed with logical axis names."""

    def loss_weights(self, batch: Batch) -> dict[str, jax.Array]:
        """What the sum of each loss is divided by; its keys name the losses that are added up."""

    def sums(self, params: Any, batch: Batch, keys: Keys) -> dict[str, Sum]:
        """Losses and other metrics of a batch as (sum, weight)."""


def zeros(shapes: Shapes) -> Batch:
    """A batch for a model's initialisation."""
    return {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}
