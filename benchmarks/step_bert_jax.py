"""One side of `peers`: our train step, as `run_pretrain.py` runs it, but for the data."""

from typing import Any

import jax
import jaxlib

from benchmarks.worker import Missing, TakeSteps, serve, synthetic_batch
from bert_jax.models.registry import config_from_saved
from bert_jax.objectives.pretraining import PretrainingObjective
from bert_jax.parallel.process import keep_freed_memory
from bert_jax.parallel.sharding import make_mesh, put_batch
from bert_jax.training.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
from bert_jax.training.step import init_state, make_train_step


def set_up(task: dict[str, Any]) -> tuple[TakeSteps, dict[str, Any]]:
    """Makes the model and its step.

    Args:
      task: `Workload.task`, with `model_settings`, fields of `BertConfig` for ours alone, and
        `keep_freed_memory` as options.
    """
    if task.get("keep_freed_memory"):
        keep_freed_memory()  # before jax starts
    found = (jax.default_backend(), jax.device_count())
    if found != (task["platform"], 1):
        raise Missing(
            f"jax has {found[1]} device(s) of the kind {found[0]!r}; this needs one "
            f"{task['platform']!r} (benchmarks.gpu --toy runs on a CPU)"
        )
    objective = PretrainingObjective(config_from_saved(task["model"] | task["model_settings"]))
    settings = OptimizerConfig(
        learning_rate=task["learning_rate"], schedule="constant", warmup_steps=0
    )
    optimizer = make_optimizer(settings, learning_rate_schedule(settings, total_steps=1))
    mesh = make_mesh()
    state = init_state(objective, optimizer, mesh, seed=0)
    train_step = make_train_step(objective, optimizer, mesh)
    batch = put_batch(synthetic_batch(task), mesh)
    facts = {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "device": jax.devices()[0].device_kind,
        "versions": {"jax": jax.__version__, "jaxlib": jaxlib.__version__},
    }

    def take_steps(steps: int) -> float:
        nonlocal state
        for _ in range(steps):
            state, metrics = train_step(state, batch, 0)
        jax.block_until_ready(state)
        return float(metrics["loss"])

    return take_steps, facts


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device had too little memory, at compilation or when running."""
    text = str(error)
    return "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower()


if __name__ == "__main__":
    serve(set_up, is_out_of_memory)
