"""Metrics of a finite set of batches."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from bert_jax.objectives.losses import Sum
from bert_jax.parallel.sharding import put_batch
from bert_jax.training.step import EvalStep


def evaluate(
    eval_step: EvalStep,
    params: Any,
    batches: Iterable[dict[str, np.ndarray]],
    mesh: Mesh,
) -> dict[str, float]:
    """Averages over all batches, at least one, each metric divided once at the end.

    Returns:
      Each metric of the objective, and `loss`, the sum of those whose name ends in "_loss".
    """
    total: dict[str, Sum] | None = None
    for number, batch in enumerate(batches):
        sums = eval_step(params, put_batch(batch, mesh), number)
        total = sums if total is None else jax.tree.map(jnp.add, total, sums)
    assert total is not None, "evaluation needs at least one batch"
    metrics = {
        name: float(value) / float(weight)
        for name, (value, weight) in jax.device_get(total).items()
    }
    loss = sum(value for name, value in metrics.items() if name.endswith("_loss"))
    return {"loss": loss, **metrics}
