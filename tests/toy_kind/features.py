"""[CLS] words [SEP], where "labels" is the position of the marked word's first piece."""

import numpy as np

from data_pipeline.finetune.features import Features, encode_all, labelled, token_arrays


def spot_features(examples, how):
    special = how.tokenizer.special_ids
    rows = []
    for number, example in enumerate(examples):
        pieces = encode_all(how.tokenizer, example.words)
        starts = np.cumsum([1, *map(len, pieces)])[:-1]
        ids = [special["cls"], *np.concatenate(pieces).tolist(), special["sep"]]
        label = 0 if example.marked is None else int(starts[example.marked])
        tokens = token_arrays(ids, [0] * len(ids))
        feature = labelled(tokens, label, example.marked is not None, number)
        rows.append(feature._replace(decoding=starts))
    return Features(rows, 0)
