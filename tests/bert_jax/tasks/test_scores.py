"""Scores against their definitions."""

import itertools

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from bert_jax.tasks.scores import (
    classification_scores,
    multi_label_scores,
    ranking_scores,
    regression_scores,
    rouge_scores,
)


def test_classes():
    true, predicted = list("1101001"), list("1001101")
    found = classification_scores(true, predicted, ("accuracy", "f1", "macro_f1", "matthews"))
    tp, fp, fn, tn = 3, 1, 1, 2
    f1_of_0 = 2 * tn / (2 * tn + fp + fn)
    assert found["accuracy"] == pytest.approx(5 / 7)
    assert found["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert found["macro_f1"] == pytest.approx((found["f1"] + f1_of_0) / 2)
    root = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert found["matthews"] == pytest.approx((tp * tn - fp * fn) / root)


def test_f1_is_of_the_positive_class_and_constant_answers_score_zero():
    assert classification_scores(list("aab"), list("aaa"), ("f1",), "b") == {"f1": 0.0}
    assert classification_scores(list("010"), list("000"), ("matthews",)) == {"matthews": 0.0}


def test_sets_of_labels():
    found = multi_label_scores([["a", "b"], [], ["c"]], [["a"], [], ["c", "a"]])
    assert found["micro_f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert found["exact"] == pytest.approx(1 / 3)


def test_sets_that_are_all_empty():
    assert multi_label_scores([[], []], [[], []]) == {
        "micro_f1": 0.0,
        "macro_f1": 0.0,
        "exact": 1.0,
    }
    assert multi_label_scores([[], []], [[], ["a"]])["exact"] == 0.5


def test_numbers():
    true, predicted = [1.0, 2.0, 4.0, 3.0], [1.0, 3.0, 9.0, 8.0]
    found = regression_scores(true, predicted)
    assert found["pearson"] == pytest.approx(np.corrcoef(true, predicted)[0, 1])
    assert found["spearman"] == pytest.approx(1.0)
    assert regression_scores(true, [1.0] * 4) == {"pearson": 0.0, "spearman": 0.0}


def worst_order(relevant, scores):
    """Of all orders that the scores allow, the one whose relevant candidates stand last."""
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
    # The relevant ones stand second of three, and first and third of three.
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


def test_rouge_of_english_is_that_of_the_library():
    pairs = [("The cats sat on mats.", "A cat sits on the mat"), ("One two three", "three two")]
    library = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    for name, value in rouge_scores(pairs).items():
        each = [library.score(*pair)[name].fmeasure for pair in pairs]
        assert value == pytest.approx(np.mean(each))
    assert rouge_scores([]) == {"rouge1": 0, "rouge2": 0, "rougeL": 0}


def test_rouge_of_chinese_counts_characters():
    # 我爱北京 against 我爱南京: 3 of 4 characters, 1 of 3 pairs, and in order 我爱京.
    found = rouge_scores([("我爱北京。", "我爱南京！")], characters=True)
    assert found == pytest.approx({"rouge1": 3 / 4, "rouge2": 1 / 3, "rougeL": 3 / 4})
    assert rouge_scores([("BERT模型v2", "bert 模型 V2")], characters=True)["rouge2"] == 1
