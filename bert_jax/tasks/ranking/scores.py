"""How high the relevant candidates rank."""

from collections.abc import Sequence

import numpy as np


def ranking_scores(
    groups: Sequence[tuple[Sequence[bool], Sequence[float]]], cuts: Sequence[int] = (1, 2, 5)
) -> dict[str, float]:
    """How high the relevant candidates of each query rank: means over the queries.

    "mrr" is one over the rank of the first relevant candidate. "recall@k" is the share of a query's
    relevant candidates among its first k; with a single one it is 0 or 1, as R_10@k of response
    selection. Among equal scores the irrelevant candidates rank first, so that a model with one
    answer for all is not rewarded; one scored NaN ranks last if it is relevant, else first.

    Args:
      groups: (which candidates are relevant, at least one; their scores) of each query.
      cuts: the values of k.
    """
    reciprocal = []
    recalls: dict[int, list[float]] = {k: [] for k in cuts}
    for relevant, scores in groups:
        true = np.asarray(relevant, bool)
        values = np.where(np.isnan(scores), np.where(true, -np.inf, np.inf), scores)
        order = np.lexsort((true, -values))  # by score, then the irrelevant first
        ranks = np.flatnonzero(true[order]) + 1
        reciprocal.append(1 / ranks[0])
        for k in cuts:
            recalls[k].append(float(np.mean(ranks <= k)))
    means = {"mrr": reciprocal} | {f"recall@{k}": values for k, values in recalls.items()}
    return {name: float(np.mean(values)) if values else 0.0 for name, values in means.items()}
