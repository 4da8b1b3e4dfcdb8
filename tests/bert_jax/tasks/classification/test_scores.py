import numpy as np
import pytest

from bert_jax.tasks.classification.scores import (
    classification_scores,
    multi_label_scores,
    regression_scores,
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
