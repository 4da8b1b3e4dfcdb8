"""What a fine-tuning takes from the checkpoint that it starts from."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from bert_jax.errors import UserError
from bert_jax.models.adapters import PART
from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.registry import architecture_of
from bert_jax.tasks.task import Task
from bert_jax.training.warm_start import WarmStart, match_params
from commands.saved_model import SavedModel
from configs.finetune import FinetuneConfig

_SHOWN = 12  # classes named in a message


def model_of(config: FinetuneConfig, source: SavedModel) -> EncoderConfig:
    """The source's architecture with the run's dropout and dtype."""
    model = source.model
    if PART in source.params:
        name, folder = source.saved["method"]["name"], config.init_from
        fix = f"start from its base {source.saved['base']['folder']}"
        if name == "lora":
            fix = f"merge it: python run_convert.py merge --checkpoint {folder} --output DIR"
        raise UserError(f"{source.origin} is a model with {name}, not a plain one; {fix}")
    if config.sequence_length > model.max_position_embeddings:
        raise UserError(
            f"sequence_length {config.sequence_length} is beyond the model's "
            f"{model.max_position_embeddings} positions; lower it"
        )
    model = dataclasses.replace(model, dtype=config.dtype)
    return model if config.dropout is None else model.with_dropout(config.dropout)


def warm_start(
    config: FinetuneConfig,
    source: SavedModel,
    task: Task[Any],
    classes: tuple[str, ...],
    shapes: Any,
    say: Callable[[str], None],
) -> WarmStart:
    """The parameters of the source that the run uses; `say` is told if the output layer is kept."""
    if config.from_scratch:
        return WarmStart({}, ["everything"], [])
    loaded = dict(source.params)
    for head in set(shapes) - {"encoder", "pooler"}:
        if head not in loaded:
            continue
        if config.fresh_head:
            del loaded[head]
            continue
        kind, labels = source.saved.get("architecture"), tuple(source.saved.get("labels", ()))
        theirs = _named(source.saved.get("task") or kind, labels)
        own, wanted = (jax.tree.map(lambda x: x.shape, tree[head]) for tree in (loaded, shapes))
        problem_type = task.problem_type
        if "task" in source.saved:  # a run of ours; foreign models need not have it
            problem_type = source.saved.get("problem_type", "")
        if own != wanted or (kind, labels, problem_type) != (
            architecture_of(source.model).class_with(task.head),
            classes,
            task.problem_type,
        ):
            raise UserError(
                f"{source.origin} has an output layer for {theirs}, not for "
                f"{_named(task.name, classes)}; add --fresh-head to start with a new one"
            )
        say(f"the output layer for {theirs} is kept; --fresh-head starts with a new one")
    return match_params(shapes, loaded, source.origin)


def _named(task: str | None, classes: tuple[str, ...]) -> str:
    shown = ", ".join(classes[:_SHOWN]) + (" ..." if len(classes) > _SHOWN else "")
    return (task or "another task") + (f" ({shown})" if shown else "")
