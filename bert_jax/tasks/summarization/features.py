"""Features of articles: whole sentences in windows."""

from collections.abc import Sequence

import numpy as np

from bert_jax.tasks.summarization.reader import SummaryExample
from bert_jax.tasks.task import Encoding
from data_pipeline.finetune.features import Feature, Features, encode_all, token_arrays
from data_pipeline.finetune.windows import sentence_windows


def summary_features(examples: Sequence[SummaryExample], how: Encoding) -> Features:
    """Sentences as in BertSum (arXiv:1903.10318): [CLS] before and [SEP] after each.

    The token types 0 and 1 alternate. A long article is read in several windows, a feature each;
    every sentence is scored in one of them. Only a sentence longer than a window is cut.

    A feature has S places for scored sentences, with the values `cls_positions`, int32 [S];
    `sentence_mask`, float32 [S], 1 for a sentence; `labels`, float32 [S], 1 for a chosen one;
    `weights`, float32 [S], the mask if the summary is known, else 0.
    """
    tokenizer, max_length = how.tokenizer, how.max_length
    cls, sep = tokenizer.special_ids["cls"], tokenizer.special_ids["sep"]
    ids = iter(encode_all(tokenizer, [s.text for example in examples for s in example.sentences]))
    found: list[tuple[int, dict[str, np.ndarray], np.ndarray, np.ndarray]] = []
    cut = 0
    for number, example in enumerate(examples):
        whole = [next(ids).tolist() for _ in example.sentences]
        cut += any(len(sentence) > max_length - 2 for sentence in whole)
        pieces = [[cls, *sentence[: max_length - 2], sep] for sentence in whole]
        chosen = np.array(example.chosen or [False] * len(pieces), np.float32)
        for start, first, end in sentence_windows([len(piece) for piece in pieces], max_length):
            shown = pieces[start:end]
            types = [place % 2 for place, piece in enumerate(shown) for _ in piece]
            tokens = token_arrays([piece for pieces_ in shown for piece in pieces_], types)
            positions = np.cumsum([0, *(len(piece) for piece in shown)])[first - start : -1]
            found.append((number, tokens, positions, chosen[first:end]))
    width = max((len(positions) for _, _, positions, _ in found), default=0)
    rows = []
    for number, tokens, positions, labels in found:
        fill = (0, width - len(positions))
        mask = np.pad(np.ones(len(positions), np.float32), fill)
        values = {
            "cls_positions": np.pad(positions.astype(np.int32), fill),
            "sentence_mask": mask,
            "labels": np.pad(labels, fill),
            "weights": mask * np.float32(examples[number].chosen is not None),
        }
        rows.append(Feature(tokens, values, number))
    return Features(rows, cut)
