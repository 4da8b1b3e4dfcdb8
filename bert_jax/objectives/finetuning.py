"""The fine-tuning objective: any model with one kind of logits, any loss of labels and weights."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh, use_abstract_mesh

from bert_jax.models.adapters import PART, init_adapters, variables
from bert_jax.models.config import MethodConfig
from bert_jax.models.registry import architecture_of
from bert_jax.objectives.config import RegularizationConfig
from bert_jax.objectives.criteria import Divergence, Loss
from bert_jax.objectives.losses import Sum, divergence
from bert_jax.objectives.objective import Batch, BatchSize, Keys, Metric, Shapes, zeros
from bert_jax.parallel.sharding import batch_sharding, put_batch, replicated


@dataclasses.dataclass(frozen=True, eq=False)
class FinetuningObjective:
    """The loss of a model on the labels of its batches; an `objective.Objective`."""

    model: nn.Module  # (batch, deterministic) -> logits; its `config` is the encoder's
    loss: Loss
    batch_shapes: Callable[[BatchSize], Shapes]
    regularization: RegularizationConfig = RegularizationConfig()
    method: MethodConfig = MethodConfig()
    divergence: Divergence = divergence  # for R-Drop

    @property
    def metrics(self) -> dict[str, Metric]:
        return {"loss": Metric("loss")}

    def init(self, key: jax.Array) -> Any:
        """Fresh parameters, boxed with their logical axis names."""
        batch = zeros(self.batch_shapes(BatchSize(rows=1, length=2)))
        params = self.model.init(key, batch)["params"]
        config = self.model.config
        adapters_key = jax.random.fold_in(key, 1)
        adapters = init_adapters(self.method, architecture_of(config), config, params, adapters_key)
        return {**params, PART: adapters} if adapters else params

    def loss_weights(self, batch: Batch) -> dict[str, jax.Array]:
        """The sum of the labels' weights, which must not be 0 even in a batch without labels."""
        return {"loss": jnp.maximum(jnp.sum(batch["weights"]), 1e-5)}

    def logits(self, params: Any, batch: Batch, dropout_key: jax.Array | None = None) -> jax.Array:
        """The model's outputs, without dropout unless there is a key."""
        rngs = None if dropout_key is None else {"dropout": dropout_key}
        return self.model.apply(
            variables(self.method, params), batch, deterministic=dropout_key is None, rngs=rngs
        )  # type: ignore[return-value]

    def sums(self, params: Any, batch: Batch, keys: Keys) -> dict[str, Sum]:
        """The loss as (sum, weight), regularized if there is a key for dropout."""
        dropout_key = keys.dropout
        if dropout_key is None:
            return {"loss": self.loss(self.logits(params, batch), batch, 0.0)}
        total, weight = self._regularized(params, batch, dropout_key)
        if epsilon := self.regularization.adversarial:
            paths = flatten_dict(params, sep="/")
            word_table = architecture_of(self.model.config).word_table

            def loss_with(table: jax.Array) -> jax.Array:
                attacked = unflatten_dict({**paths, word_table: table}, sep="/")
                return self._regularized(attacked, batch, dropout_key)[0]

            gradient = jax.grad(loss_with)(paths[word_table])
            norm = jnp.sqrt(jnp.sum(jnp.square(gradient)))
            step = jax.lax.stop_gradient(epsilon * gradient / jnp.maximum(norm, 1e-12))
            total += loss_with(paths[word_table] + step)
        return {"loss": (total, weight)}

    def _regularized(self, params: Any, batch: Batch, key: jax.Array) -> Sum:
        """The smoothed loss; with R-Drop, the mean of two losses plus their divergence."""
        smoothing, r_drop = self.regularization.label_smoothing, self.regularization.r_drop
        if not r_drop:
            return self.loss(self.logits(params, batch, key), batch, smoothing)
        first, second = (self.logits(params, batch, key) for key in jax.random.split(key))
        total, weight = self.loss(first, batch, smoothing)
        total = (total + self.loss(second, batch, smoothing)[0]) / 2
        apart = self.divergence(first, second)
        return total + r_drop * jnp.sum(batch["weights"] * apart), weight


PredictStep = Callable[[Any, Batch], tuple[jax.Array, Sum]]


def make_predict_step(objective: FinetuningObjective, mesh: Mesh) -> PredictStep:
    """The jitted (params, batch) -> (logits on every device, loss as (sum, weight))."""

    def predict_step(params: Any, batch: Batch) -> tuple[jax.Array, Sum]:
        with use_abstract_mesh(mesh.abstract_mesh):
            logits = objective.logits(params, batch)
            return logits, objective.loss(logits, batch, 0.0)

    shardings = (None, batch_sharding(mesh))
    return jax.jit(predict_step, in_shardings=shardings, out_shardings=replicated(mesh))


def predict(
    predict_step: PredictStep,
    params: Any,
    batches: Iterable[tuple[np.ndarray, dict[str, np.ndarray]]],
    mesh: Mesh,
) -> tuple[list[np.ndarray], float]:
    """The outputs for every row of some batches, and their mean loss, on one host.

    Args:
      batches: (numbers of the rows, int64 [n]; a batch whose first n rows these are). Together, the
        numbers are all of 0 to the number of rows.

    Returns:
      (float32 logits of each row in the order of the numbers; the loss, 0 without any label).
    """
    outputs: dict[int, np.ndarray] = {}
    total = weight = 0.0
    for numbers, batch in batches:
        logits, sums = jax.device_get(predict_step(params, put_batch(batch, mesh)))
        outputs.update(zip(numbers.tolist(), logits, strict=False))
        total, weight = total + float(sums[0]), weight + float(sums[1])
    return [outputs[number] for number in range(len(outputs))], total / max(weight, 1e-5)
