"""Loaded parameters made to fit a model with more pieces or more positions."""

from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from bert_jax.errors import UserError
from bert_jax.models.architecture import Architecture


def resize_vocabulary(
    params: dict[str, Any], architecture: Architecture, size: int
) -> dict[str, Any]:
    """Gives the embedding and the vocabulary bias `size` rows, the old ones first.

    New rows are the mean of the old ones, in both. The logit of a new piece is then the mean of the
    old logits, and its probability at most 1 / (number of old pieces), since the exponential is
    convex: what the model predicted before hardly changes. Drawn at random instead, with an
    embedding shorter than the trained ones, a new piece can get a logit near zero where all trained
    ones are far below it, and take the whole probability.

    Args:
      params: our tree, perhaps without the masked-LM head.
      architecture: the model's.
      size: rows afterwards; fewer than now cuts the last ones off.
    """
    flat = flatten_dict(params, sep="/")
    for path in (architecture.word_table, architecture.vocabulary_bias):
        if path in flat:
            old = flat[path]
            mean = old.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
            new = np.repeat(mean, max(size - len(old), 0), axis=0)
            flat[path] = np.concatenate([old[:size], new])
    return unflatten_dict(flat, sep="/")


def extend_positions(
    params: dict[str, Any], architecture: Architecture, positions: int
) -> dict[str, Any]:
    """Gives the position embeddings more rows by repeating the old ones from the first.

    Neighbours then relate as they did, apart from the seams, which is a better start than fresh
    rows (Longformer, arXiv:2004.05150, section 5).

    Args:
      params: our tree.
      architecture: the model's.
      positions: rows afterwards, at least as many as now.
    """
    path = architecture.position_table
    if path is None:
        raise UserError(
            f"the architecture {architecture.name} has no table of positions to lengthen"
        )
    flat = flatten_dict(params, sep="/")
    flat[path] = flat[path][np.arange(positions) % len(flat[path])]
    return unflatten_dict(flat, sep="/")
