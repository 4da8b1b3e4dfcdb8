"""Features of one text or a pair."""

from collections.abc import Callable, Sequence

import numpy as np

from bert_jax.tasks.classification.reader import TextExample
from bert_jax.tasks.task import Encoding
from data_pipeline.finetune.features import Features, encode_all, labelled, pair_inputs

# (an example's "labels", its weight in the loss)
Target = tuple[np.ndarray | np.generic | int, float]


def text_features(
    examples: Sequence[TextExample],
    how: Encoding,
    target: Callable[[TextExample], Target],
) -> Features:
    """One feature for each example; what is longer than `how.max_length` is cut and counted.

    Args:
      examples: with or without labels.
      how: the tokenizer and the length.
      target: of an example.
    """
    first = encode_all(how.tokenizer, [example.first for example in examples])
    second = encode_all(how.tokenizer, [example.second or "" for example in examples])
    rows, cut = [], 0
    for number, example in enumerate(examples):
        pair = second[number] if example.second is not None else None
        inputs = pair_inputs(how.tokenizer, first[number], pair, how.max_length)
        cut += inputs.cut > 0
        rows.append(labelled(inputs.tokens, *target(example), number))
    return Features(rows, cut)
