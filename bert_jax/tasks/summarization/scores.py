"""ROUGE, by Google's rouge-score, which is slow to import."""

import re
from collections.abc import Sequence

import numpy as np


def rouge_scores(pairs: Sequence[tuple[str, str]], characters: bool = False) -> dict[str, float]:
    """Mean F1 of ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004) of pairs (reference, summary).

    Only words of Latin letters and digits count, by their stems (Porter); with `characters`, for
    Chinese, words are not stemmed and every other letter is a word of its own.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer

    names = ["rouge1", "rouge2", "rougeL"]
    tokenizer = _Characters() if characters else DefaultTokenizer(use_stemmer=True)
    scorer = RougeScorer(names, tokenizer=tokenizer)
    found = [scorer.score(reference, summary) for reference, summary in pairs]
    if not found:
        return dict.fromkeys(names, 0.0)
    return {name: float(np.mean([s[name].fmeasure for s in found])) for name in names}


class _Characters:
    """Words of Latin letters and digits, and every other letter by itself."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[a-z0-9]+|[^\W_]", text.lower())
