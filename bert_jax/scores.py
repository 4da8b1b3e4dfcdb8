"""Scores of predictions, by the reference implementations: scikit-learn and SciPy.

Those of entities and relations are our own (docs/decisions/entity-scores.md; the official scorer of
the relations is in Perl).
"""

import re
from collections import Counter
from collections.abc import Collection, Sequence

from scipy import stats
from sklearn import metrics
from sklearn.preprocessing import MultiLabelBinarizer

Entity = tuple[str, int, int]  # type, start, end

NO_RELATION = "Other"


def classification_scores(
    true: Sequence[str], predicted: Sequence[str], names: Sequence[str], positive: str = "1"
) -> dict[str, float]:
    """Scores of classes.

    Args:
      true, predicted: a class for each example.
      names: of the scores: "accuracy"; "f1" of the class `positive`; "macro_f1", the mean over all
        classes; "matthews", the correlation coefficient, 0 where there is one class only.
      positive: the class of "f1".
    """
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
    """Scores of sets of labels: micro and macro F1, and the share of sets that are all right."""
    binarizer = MultiLabelBinarizer().fit([*true, *predicted])
    sets = binarizer.transform(true), binarizer.transform(predicted)
    return {
        "micro_f1": float(metrics.f1_score(*sets, average="micro", zero_division=0)),
        "macro_f1": float(metrics.f1_score(*sets, average="macro", zero_division=0)),
        "exact": float(metrics.accuracy_score(*sets)),
    }


def regression_scores(true: Sequence[float], predicted: Sequence[float]) -> dict[str, float]:
    """Correlation coefficients of Pearson and Spearman, 0 where one side is constant."""
    if len(set(true)) < 2 or len(set(predicted)) < 2:
        return {"pearson": 0.0, "spearman": 0.0}
    return {
        "pearson": float(stats.pearsonr(true, predicted).statistic),
        "spearman": float(stats.spearmanr(true, predicted).statistic),
    }


def entity_scores(
    true: Sequence[Collection[Entity]], predicted: Sequence[Collection[Entity]]
) -> dict[str, float]:
    """Precision, recall and F1 of entities, which count when type, start and end are all right.

    As by CoNLL-2003's `conlleval` and seqeval's default mode (docs/decisions/entity-scores.md).
    Micro averages; "macro_f1" is the mean over the types that occur on either side. A share of
    nothing is 0.

    Args:
      true, predicted: (type, start, end) of the entities of each text.
    """
    right, all_true, all_predicted = Counter[str](), Counter[str](), Counter[str]()
    for there, found in zip(true, predicted, strict=True):
        right.update(entity[0] for entity in set(there) & set(found))
        all_true.update(entity[0] for entity in set(there))
        all_predicted.update(entity[0] for entity in set(found))
    types = all_true.keys() | all_predicted.keys()
    by_type = [_f1(right[name], all_predicted[name], all_true[name]) for name in types]
    return {
        "precision": right.total() / max(all_predicted.total(), 1),
        "recall": right.total() / max(all_true.total(), 1),
        "f1": _f1(right.total(), all_predicted.total(), all_true.total()),
        "macro_f1": sum(by_type) / max(len(by_type), 1),
    }


def relation_scores(true: Sequence[str], predicted: Sequence[str]) -> dict[str, float]:
    """The official score of SemEval-2010 task 8 (Hendrickx et al. 2010), and the accuracy.

    "macro_f1" is the mean F1 of the relations that occur in `true`, without "Other", where both
    directions, "(e1,e2)" and "(e2,e1)" behind the name, are one relation, and one that is found in
    the wrong direction is wrong for precision and recall: the "(9+1)-way evaluation taking
    directionality into account" of the task's scorer 1.2.
    """
    right, all_true, all_predicted = Counter[str](), Counter[str](), Counter[str]()
    for there, found in zip(true, predicted, strict=True):
        all_true[_undirected(there)] += 1
        all_predicted[_undirected(found)] += 1
        right[_undirected(there)] += there == found
    relations = all_true.keys() - {NO_RELATION}
    by_relation = [_f1(right[name], all_predicted[name], all_true[name]) for name in relations]
    return {
        "macro_f1": sum(by_relation) / max(len(by_relation), 1),
        "accuracy": right.total() / max(len(true), 1),
    }


def _undirected(relation: str) -> str:
    return re.sub(r"\(e[12],e[12]\)$", "", relation)


def _f1(right: int, predicted: int, true: int) -> float:
    """2PR / (P + R) of P = right / predicted and R = right / true."""
    return 2 * right / max(predicted + true, 1)
