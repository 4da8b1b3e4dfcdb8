"""Features of several choices for one context."""

from collections.abc import Sequence

import numpy as np

from bert_jax.tasks.multiple_choice.reader import ChoiceExample
from bert_jax.tasks.task import Encoding
from data_pipeline.finetune.features import Features, context_inputs, encode_all, labelled


def choice_features(examples: Sequence[ChoiceExample], how: Encoding) -> Features:
    """One feature for each example, its token arrays int32 [C, n].

    C is the largest number of choices in the examples, n the length of the longest choice with its
    context, cut by `context_inputs`. A choice that an example lacks is a row of zeros, in its
    `attention_mask` too.
    """
    width = max((len(example.choices) for example in examples), default=0)
    contexts = encode_all(how.tokenizer, [example.context for example in examples])
    questions = encode_all(how.tokenizer, [example.question for example in examples])
    choices = iter(
        encode_all(how.tokenizer, [text for example in examples for text in example.choices])
    )
    rows, cut = [], 0
    for number, example in enumerate(examples):
        inputs = [
            context_inputs(
                how.tokenizer,
                contexts[number],
                np.concatenate([questions[number], next(choices)]),
                how.max_length,
            )
            for _ in example.choices
        ]
        cut += any(choice.cut > 0 for choice in inputs)
        length = max(len(choice.tokens["input_ids"]) for choice in inputs)
        tokens = {}
        for name in inputs[0].tokens:
            tokens[name] = np.zeros((width, length), np.int32)
            for place, choice in enumerate(inputs):
                tokens[name][place, : len(choice.tokens[name])] = choice.tokens[name]
        rows.append(labelled(tokens, example.label or 0, example.label is not None, number))
    return Features(rows, cut)
