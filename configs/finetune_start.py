"""What a fine-tuning takes of the checkpoint that it starts from."""

import dataclasses
from typing import Any

import jax

from bert_jax.adapters import PART
from bert_jax.errors import UserError
from bert_jax.model import BertConfig
from bert_jax.warm_start import WarmStart, match_params
from configs.finetune import FinetuneConfig
from configs.source import Source


def model_of(config: FinetuneConfig, source: Source) -> BertConfig:
    """The source's architecture with the run's dropout and dtype.

    Raises:
      UserError: the run cannot start from the source.
    """
    model = source.model
    if PART in source.params:
        name, folder = source.saved["method"]["name"], config.init_from
        fix = f"start from its base {source.saved['base']['folder']}"
        if name == "lora":
            fix = f"merge it: python run_convert.py merge --checkpoint {folder} --output DIR"
        raise UserError(f"{source.origin} is no plain BERT but one with {name}; {fix}")
    if config.sequence_length > model.max_position_embeddings:
        raise UserError(
            f"sequence_length {config.sequence_length} is beyond the model's "
            f"{model.max_position_embeddings} positions; lower it"
        )
    model = dataclasses.replace(model, dtype=config.dtype)
    if config.dropout is None:
        return model
    return dataclasses.replace(
        model,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
    )


def warm_start(
    config: FinetuneConfig, source: Source, classes: tuple[str, ...], shapes: Any
) -> WarmStart:
    """The source's parameters that the run uses.

    Raises:
      UserError: the source has another task's output layer.
    """
    if config.from_scratch:
        return WarmStart({}, ["everything"], [])
    loaded = dict(source.params)
    for head in set(shapes) - {"encoder", "pooler"}:
        if head not in loaded:
            continue
        labels = source.saved.get("labels", list(classes))
        same_shape = jax.tree.map(lambda x: x.shape, loaded[head]) == jax.tree.map(
            lambda x: x.shape, shapes[head]
        )
        if config.fresh_head:
            del loaded[head]
        elif not same_shape or labels != list(classes):
            raise UserError(
                f"{source.origin} has an output layer for other classes "
                f"({', '.join(labels) or 'a number'}) than the data; add --fresh-head to start "
                "with a new one"
            )
    return match_params(shapes, loaded, source.origin)
