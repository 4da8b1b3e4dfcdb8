"""Scores of relations; reimplemented, since the official scorer is in Perl."""

import re
from collections import Counter
from collections.abc import Sequence

from bert_jax.tasks.scores import macro_f1

NO_RELATION = "Other"


def relation_scores(true: Sequence[str], predicted: Sequence[str]) -> dict[str, float]:
    """The official score of SemEval-2010 task 8 (Hendrickx et al. 2010), and the accuracy.

    "macro_f1" is the mean F1 of the relations that occur in `true`, without "Other". The two
    directions, "(e1,e2)" and "(e2,e1)" after the name, are one relation, and one predicted in the
    wrong direction counts as wrong: the "(9+1)-way evaluation taking directionality into account"
    of the task's scorer 1.2.
    """
    right, all_true, all_predicted = Counter[str](), Counter[str](), Counter[str]()
    for there, found in zip(true, predicted, strict=True):
        all_true[_undirected(there)] += 1
        all_predicted[_undirected(found)] += 1
        right[_undirected(there)] += there == found
    relations = all_true.keys() - {NO_RELATION}
    return {
        "macro_f1": macro_f1(relations, right, all_predicted, all_true),
        "accuracy": right.total() / max(len(true), 1),
    }


def _undirected(relation: str) -> str:
    return re.sub(r"\(e[12],e[12]\)$", "", relation)
