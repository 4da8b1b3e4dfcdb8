"""Scores of predictions, by the reference implementations: scikit-learn, SciPy, rouge-score.

Those of entities and relations are our own (docs/decisions/entity-scores.md; the official scorer of
the relations is in Perl).
"""

import re
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer, Tokenizer
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
    """Scores of sets of labels: micro and macro F1, and the share of sets that are all right.

    Where all sets are empty, on both sides, F1 is 0, being a share of nothing.
    """
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
    """Correlation coefficients of Pearson and Spearman, 0 where one side is constant."""
    if len(set(true)) < 2 or len(set(predicted)) < 2:
        return {"pearson": 0.0, "spearman": 0.0}
    return {
        "pearson": float(stats.pearsonr(true, predicted).statistic),
        "spearman": float(stats.spearmanr(true, predicted).statistic),
    }


def ranking_scores(
    groups: Sequence[tuple[Sequence[bool], Sequence[float]]], cuts: Sequence[int] = (1, 2, 5)
) -> dict[str, float]:
    """How far up the relevant candidates of each query stand: means over the queries.

    "mrr" is one over the rank of the first relevant candidate. "recall@k" is the share of a query's
    relevant candidates that are among its first k; with one it is 0 or 1, as in R_10@k of response
    selection. Where scores are equal the irrelevant ones stand first, so that a model that says the
    same of all is not rewarded; a score that is not a number stands last if it is relevant, else
    first.

    Args:
      groups: (which candidates are relevant, at least one; their scores) of each query.
      cuts: the k.
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


def rouge_scores(pairs: Sequence[tuple[str, str]], characters: bool = False) -> dict[str, float]:
    """Mean F1 of ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004), by Google's rouge-score.

    Args:
      pairs: (reference, summary).
      characters: of texts in Chinese: each Chinese character is a word; else words of Latin letters
        and digits, by their stems (Porter), and nothing else counts.
    """
    names = ["rouge1", "rouge2", "rougeL"]
    tokenizer = _Characters() if characters else DefaultTokenizer(use_stemmer=True)
    scorer = RougeScorer(names, tokenizer=tokenizer)
    found = [scorer.score(reference, summary) for reference, summary in pairs]
    if not found:
        return dict.fromkeys(names, 0.0)
    return {name: float(np.mean([s[name].fmeasure for s in found])) for name in names}


class _Characters(Tokenizer):
    """Words of Latin letters and digits, and every other letter by itself."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[a-z0-9]+|[^\W_]", text.lower())


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
