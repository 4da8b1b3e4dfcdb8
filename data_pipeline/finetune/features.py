"""Features: the model's input for an example, as arrays without padding."""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from data_pipeline.tokenization.interface import Tokenizer

Batch = dict[str, np.ndarray]


class Feature(NamedTuple):
    """One row of the model's input.

    Attributes:
      tokens: arrays whose last axis is the n tokens, among them `input_ids`, `token_type_ids` and
        `attention_mask`, int32 [..., n]; a batch pads that axis with zeros.
      values: arrays of one shape for all features of a task; zeros in a row that fills up a batch.
      example: index of the example that it belongs to.
      decoding: what else the task's `predict` needs to know; not part of a batch.
    """

    tokens: dict[str, np.ndarray]
    values: dict[str, np.ndarray]
    example: int
    decoding: Any = None

    @property
    def length(self) -> int:
        return self.tokens["input_ids"].shape[-1]


def labelled(
    tokens: dict[str, np.ndarray],
    labels: np.ndarray | np.generic | int,
    weights: float,
    example: int,
    **values: np.ndarray,
) -> Feature:
    """A feature whose values are `labels`, int32 if it is an int, and `weights`, float32 [].

    The weight in the loss is 0 where the label is not known.
    """
    target = {
        "labels": np.asarray(labels, np.int32 if isinstance(labels, int) else None),
        "weights": np.asarray(weights, np.float32),
    }
    return Feature(tokens, target | values, example)


class Features(NamedTuple):
    """The features of some examples, in their order.

    Attributes:
      cut: number of examples that were too long and lost tokens.
      notes: a line for each kind of example that was left out or changed, with number and names.
    """

    rows: list[Feature]
    cut: int
    notes: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """SHA-256 of the arrays of all rows: the inputs, and the labels among them."""
        digest = hashlib.sha256()
        for row in self.rows:
            for array in (*row.tokens.values(), *row.values.values()):
                digest.update(array.tobytes())
        return digest.hexdigest()


class Inputs(NamedTuple):
    """The token arrays of one sequence or pair, int32 [n], and how many tokens were cut."""

    tokens: dict[str, np.ndarray]
    cut: int


def encode_all(tokenizer: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    """The ids of each text, without special pieces: integer [n] each."""
    if not texts:
        return []
    ids, lengths = tokenizer.encode_batch(list(texts))
    return np.split(ids, np.cumsum(lengths)[:-1])


def pair_inputs(
    tokenizer: Tokenizer, first: np.ndarray, second: np.ndarray | None, max_length: int
) -> Inputs:
    """[CLS] first [SEP], or [CLS] first [SEP] second [SEP], cut to `max_length` tokens.

    `first` and `second` are ids, integer [n]. Of a pair, the longer side loses its last token until
    both fit, on ties the second, as in the original's `run_classifier.py`.
    """
    if second is None:
        kept = first[: max_length - 2]
        return Inputs(framed(tokenizer, kept), len(first) - len(kept))
    sizes = pair_sizes(len(first), len(second), max_length - 3)
    tokens = framed(tokenizer, first[: sizes[0]], second[: sizes[1]])
    return Inputs(tokens, len(first) + len(second) - sum(sizes))


def context_inputs(
    tokenizer: Tokenizer, context: np.ndarray, second: np.ndarray, max_length: int
) -> Inputs:
    """[CLS] context [SEP] second [SEP] of ids, where the context loses its front until both fit.

    The end of the context matters most: the last turns of a dialogue, the sentence that an ending
    continues. `second` is cut, also at its front, only if it is too long by itself. `max_length` is
    at least 4 tokens.
    """
    budget = max_length - 3
    kept = second[max(len(second) - budget, 0) :]
    before = context[max(len(context) - (budget - len(kept)), 0) :]
    cut = len(context) + len(second) - len(before) - len(kept)
    return Inputs(framed(tokenizer, before, kept), cut)


def framed(tokenizer: Tokenizer, *parts: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
    """The token arrays of [CLS] part [SEP] part [SEP] ...; the token types number the parts."""
    ids, types = [tokenizer.special_ids["cls"]], [0]
    for number, part in enumerate(parts):
        ids += [*np.asarray(part, np.int64).tolist(), tokenizer.special_ids["sep"]]
        types += [number] * (len(part) + 1)
    return token_arrays(ids, types)


def token_arrays(ids: Sequence[int], types: Sequence[int]) -> dict[str, np.ndarray]:
    """The three inputs of the model for the tokens of one sequence, int32 [n] each."""
    return {
        "input_ids": np.array(ids, np.int32),
        "token_type_ids": np.array(types, np.int32),
        "attention_mask": np.ones(len(ids), np.int32),
    }


def pair_sizes(first: int, second: int, budget: int) -> tuple[int, int]:
    """Two lengths after shrinking the longer one until their sum fits.

    >>> pair_sizes(10, 3, 8), pair_sizes(6, 6, 7), pair_sizes(2, 3, 8)
    ((5, 3), (4, 3), (2, 3))
    """
    excess = first + second - budget
    if excess <= 0:
        return first, second
    # First the longer one shrinks alone, then both in turn, starting with the second.
    alone = min(excess, abs(first - second))
    if first > second:
        first -= alone
    else:
        second -= alone
    excess -= alone
    return first - excess // 2, second - (excess + 1) // 2


def collate(rows: Sequence[Feature], length: int, size: int) -> Batch:
    """A batch of `size` rows, filled up with zeros, whose tokens are padded to `length`."""
    batch = {}
    for name, array in rows[0].tokens.items():
        filled = np.zeros((size, *array.shape[:-1], length), array.dtype)
        for number, row in enumerate(rows):
            filled[number, ..., : row.length] = row.tokens[name]
        batch[name] = filled
    for name, array in rows[0].values.items():
        filled = np.zeros((size, *array.shape), array.dtype)
        filled[: len(rows)] = np.stack([row.values[name] for row in rows])
        batch[name] = filled
    return batch
