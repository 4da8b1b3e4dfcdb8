"""Makes loaded parameters fit a model with more pieces or more positions."""

from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from bert_jax.errors import UserError
from bert_jax.models.architecture import Architecture


def resize_vocabulary(
    params: dict[str, Any], architecture: Architecture, size: int
) -> dict[str, Any]:
    """Extends or cuts the word embeddings and the vocabulary bias to `size` rows.

    New rows are the mean of the old ones. The logit of a new piece is then the mean of the old
    logits, and its probability at most 1 / (number of old pieces), as the exponential is convex:
    the model's predictions hardly change. A random embedding, shorter than the trained ones, could
    have a logit near zero where all others are far below it, and take all of the probability.
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
    """Extends the position embeddings to `positions` rows by repeating the old ones.

    Neighbours then relate as before, except at the seams, which is a better start than fresh rows
    (Longformer, arXiv:2004.05150, section 5).
    """
    path = architecture.position_table
    if path is None:
        raise UserError(f"the architecture {architecture.name} has no position table to extend")
    flat = flatten_dict(params, sep="/")
    flat[path] = flat[path][np.arange(positions) % len(flat[path])]
    return unflatten_dict(flat, sep="/")
