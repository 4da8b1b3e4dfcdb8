import itertools

import numpy as np
import pytest

from bert_jax.tasks.ranking.scores import ranking_scores


def worst_order(relevant, scores):
    """Of all orders that the scores allow, the one that ranks the relevant candidates lowest."""
    orders = [
        order
        for order in itertools.permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    return max(
        ([relevant[index] for index in order] for order in orders),
        key=lambda flags: [-flag for flag in flags],
    )


def test_ranking_scores_equal_brute_force_with_ties():
    random = np.random.default_rng(0)
    groups, expected = [], []
    for _ in range(60):
        size = random.integers(1, 7)
        relevant = random.random(size) < 0.4
        relevant[random.integers(size)] = True
        scores = random.integers(0, 3, size).astype(float)  # many are equal
        groups.append((relevant.tolist(), scores.tolist()))
        flags = worst_order(*groups[-1])
        row = {"mrr": 1 / (flags.index(True) + 1)}
        for k in (1, 2, 5):
            row[f"recall@{k}"] = sum(flags[:k]) / sum(flags)
        expected.append(row)
    found = ranking_scores(groups)
    for name in expected[0]:
        assert found[name] == pytest.approx(np.mean([row[name] for row in expected])), name


def test_ranking_scores_by_hand():
    # The relevant ones rank second of three, and first and third of three.
    groups = [([False, True, False], [3, 2, 1]), ([True, False, True], [0.5, 0.2, -1])]
    assert ranking_scores(groups) == {
        "mrr": 0.75,
        "recall@1": 0.25,
        "recall@2": 0.75,
        "recall@5": 1.0,
    }


def test_the_same_score_for_all_and_no_numbers_are_not_rewarded():
    ten = [True] + [False] * 9
    assert ranking_scores([(ten, [0.0] * 10)]) == {
        "mrr": 0.1,
        "recall@1": 0.0,
        "recall@2": 0.0,
        "recall@5": 0.0,
    }
    assert ranking_scores([(ten, [float("nan")] * 10)])["mrr"] == 0.1
    assert ranking_scores([]) == {"mrr": 0, "recall@1": 0, "recall@2": 0, "recall@5": 0}
