"""Scores of classes, sets of labels and numbers, by scikit-learn and SciPy: slow to import."""

from collections.abc import Sequence


def classification_scores(
    true: Sequence[str], predicted: Sequence[str], names: Sequence[str], positive: str = "1"
) -> dict[str, float]:
    """Scores of classes, by name.

    These are "accuracy"; "f1" of the class `positive`; "macro_f1", the mean over all classes;
    "matthews", the correlation coefficient, 0 where there is only one class.
    """
    from sklearn import metrics

    found = {
        "accuracy": lambda: metrics.accuracy_score(true, predicted),
        "f1": lambda: metrics.f1_score(
            [label == positive for label in true],
            [label == positive for label in predicted],
            zero_division=0,
        ),
        "macro_f1": lambda: metrics.f1_score(true, predicted, average="macro", zero_division=0),
        "matthews": lambda: metrics.matthews_corrcoef(true, predicted),
    }
    return {name: float(found[name]()) for name in names}


def multi_label_scores(
    true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Micro and macro F1 (0 where all sets are empty), and the share of sets predicted exactly."""
    from sklearn import metrics
    from sklearn.preprocessing import MultiLabelBinarizer

    if not any(true) and not any(predicted):
        return {"micro_f1": 0.0, "macro_f1": 0.0, "exact": 1.0}
    binarizer = MultiLabelBinarizer().fit([*true, *predicted])
    sets = binarizer.transform(true), binarizer.transform(predicted)
    return {
        "micro_f1": float(metrics.f1_score(*sets, average="micro", zero_division=0)),
        "macro_f1": float(metrics.f1_score(*sets, average="macro", zero_division=0)),
        "exact": float(metrics.accuracy_score(*sets)),
    }


def regression_scores(true: Sequence[float], predicted: Sequence[float]) -> dict[str, float]:
    """Pearson's and Spearman's correlation coefficients, 0 where one side is constant."""
    from scipy import stats

    if len(set(true)) < 2 or len(set(predicted)) < 2:
        return {"pearson": 0.0, "spearman": 0.0}
    return {
        "pearson": float(stats.pearsonr(true, predicted).statistic),
        "spearman": float(stats.spearmanr(true, predicted).statistic),
    }
