"""Features of queries and their candidates."""

from collections.abc import Callable, Sequence

import numpy as np

from bert_jax.tasks.ranking.reader import RankingExample
from bert_jax.tasks.task import Encoding
from data_pipeline.finetune.features import Features, Inputs, encode_all, labelled
from data_pipeline.tokenization.interface import Tokenizer

# (tokenizer, query, candidate, maximum length) -> both as one sequence, cut to fit.
MakeInputs = Callable[[Tokenizer, np.ndarray, np.ndarray, int], Inputs]


def ranking_features(
    examples: Sequence[RankingExample], how: Encoding, others: int | None, make_inputs: MakeInputs
) -> Features:
    """One feature for each candidate: the query, [SEP] between its turns, and the candidate.

    Keeps the first `others` irrelevant candidates for each relevant one; None keeps all.
    """
    texts = list(dict.fromkeys(text for e in examples for text in (*e.query, *e.candidates)))
    ids = dict(zip(texts, encode_all(how.tokenizer, texts), strict=True))
    sep = np.array([how.tokenizer.special_ids["sep"]], np.int64)
    class_weights = how.class_weights or (1.0, 1.0)
    rows, cut = [], 0
    for number, example in enumerate(examples):
        turns = [ids[text] for text in example.query]
        query = np.concatenate([part for turn in turns for part in (sep, turn)][1:])
        relevant = example.relevant or (False,) * len(example.candidates)
        left = None if others is None else others * sum(relevant)
        shortened = False
        for text, label in zip(example.candidates, relevant, strict=True):
            if not label and left is not None:
                if left == 0:
                    continue
                left -= 1
            inputs = make_inputs(how.tokenizer, query, ids[text], how.max_length)
            shortened |= inputs.cut > 0
            weight = 0.0 if example.relevant is None else class_weights[label]
            rows.append(labelled(inputs.tokens, int(label), weight, number))
        cut += shortened
    return Features(rows, cut)
