"""Official scores of answers that are parts of a text: SQuAD 1.1 and 2.0, and CMRC2018."""

import difflib
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

Predicted = Sequence[str | None]  # the answer to each question; None scores 0
Answers = Sequence[Sequence[str]]  # the right ones to each question; the best match counts

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(a|an|the)\b")


def normalize_answer(text: str) -> str:
    """Lower case, without ASCII punctuation and articles, single spaces (SQuAD, evaluate-v1.1.py).

    >>> normalize_answer(" The U.S.A.'s  best-known an-them")
    'usas bestknown anthem'
    """
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def squad_scores(predicted: Predicted, answers: Answers) -> dict[str, float]:
    """The scores of SQuAD 1.1 (arXiv:1606.05250, section 6.1), between 0 and 1.

    "f1" is the mean F1 of the words, "exact" the share of equal answers.
    """
    return {
        "f1": _mean(_each(_squad_f1, predicted, answers)),
        "exact": _mean(_each(_squad_exact, predicted, answers)),
    }


def squad2_scores(predicted: Predicted, answers: Answers) -> dict[str, float]:
    """The scores of SQuAD 2.0 (arXiv:1806.03822; evaluate-v2.0.py), between 0 and 1.

    An empty prediction says that there is no answer. "f1" and "exact" are of all questions,
    "has_f1" and "has_exact" of those with an answer, "no_answer" of those without.
    """
    f1 = squad2_f1(predicted, answers)
    exact = _each(_squad2_exact, predicted, answers)
    has = np.array([bool(right) for right in answers], bool)
    scores = {"f1": _mean(f1), "exact": _mean(exact)}
    if has.any():
        scores |= {"has_f1": _mean(f1[has]), "has_exact": _mean(exact[has])}
    if not has.all():
        scores["no_answer"] = _mean(exact[~has])
    return scores


def squad2_f1(predicted: Predicted, answers: Answers) -> np.ndarray:
    """The F1 of each question by SQuAD 2.0's rules, float64 [n]."""
    return _each(_squad2_f1, predicted, answers)


def best_threshold(
    margins: np.ndarray, if_answered: np.ndarray, if_not: np.ndarray
) -> tuple[float, float]:
    """The margin above which saying "no answer" gives the best mean score, and that score.

    The score is that of `find_best_thresh` of evaluate-v2.0.py, whose threshold is the margin of
    the last question that is answered. Here it is halfway to the next, so that new questions close
    to the last are answered, too. On ties it is the threshold with the fewest answers.

    Args:
      margins: float [n], how much higher "no answer" scores than the best answer.
      if_answered, if_not: float [n], the score with the best answer, and without.
    """
    order = np.argsort(margins, kind="stable")
    margins = margins[order]
    gains = np.cumsum((if_answered - if_not)[order])
    # Equal margins are on one side of any threshold.
    last = np.append(margins[1:] > margins[:-1], True)
    ends = np.concatenate([margins[:1] - 2, margins[last], margins[-1:] + 2])
    candidates = (ends[:-1] + ends[1:]) / 2
    totals = np.sum(if_not) + np.append(0, gains[last])
    best = int(np.argmax(totals))
    return float(candidates[best]), float(totals[best] / len(margins))


def cmrc_scores(predicted: Predicted, answers: Answers) -> dict[str, float]:
    """The scores of CMRC2018 (arXiv:1810.07366, section 4.1), between 0 and 1.

    "f1" is the mean F1 by the longest common run of segments, which are Chinese characters and the
    words of other text; "exact" the share of answers that are equal without punctuation.
    """
    return {
        "f1": _mean(_each(_cmrc_f1, predicted, answers)),
        "exact": _mean(_each(_cmrc_exact, predicted, answers)),
    }


def _each(
    score: Callable[[str, Sequence[str]], float], predicted: Predicted, answers: Answers
) -> np.ndarray:
    pairs = zip(predicted, answers, strict=True)
    return np.array([0.0 if one is None else score(one, right) for one, right in pairs], np.float64)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if values.size else 0.0


def _squad_exact(predicted: str, answers: Sequence[str]) -> float:
    return float(normalize_answer(predicted) in map(normalize_answer, answers))


def _squad_f1(predicted: str, answers: Sequence[str]) -> float:
    words, scores = normalize_answer(predicted).split(), []
    for answer in answers:
        right = normalize_answer(answer).split()
        scores.append(_f1((Counter(words) & Counter(right)).total(), len(words), len(right)))
    return max(scores)


def _f1(common: int, predicted: int, right: int) -> float:
    if not common:  # 0 also for nothing and nothing, as in evaluate-v1.1.py
        return 0.0
    precision, recall = common / predicted, common / right
    return 2 * precision * recall / (precision + recall)


def _squad2_answers(answers: Sequence[str]) -> list[str]:
    """In 2.0, unlike 1.1, an answer of nothing but articles and punctuation does not count."""
    return [answer for answer in answers if normalize_answer(answer)] or [""]


def _squad2_exact(predicted: str, answers: Sequence[str]) -> float:
    return _squad_exact(predicted, _squad2_answers(answers))


def _squad2_f1(predicted: str, answers: Sequence[str]) -> float:
    right = _squad2_answers(answers)
    if right == [""] or not normalize_answer(predicted):
        return _squad_exact(predicted, right)
    return _squad_f1(predicted, right)


# The punctuation of cmrc2018_evaluate.py. It lists the ellipsis as two characters, which no single
# one equals, so an ellipsis stays.
_CMRC_PUNCTUATION = str.maketrans("", "", "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")


def _without_punctuation(text: str) -> str:
    return text.lower().strip().translate(_CMRC_PUNCTUATION)


def _segments(text: str) -> list[str]:
    """Chinese characters and the words between them, without punctuation.

    Removing punctuation leaves no space, so words can merge, as in the official script.

    >>> _segments("在Windows 95 3.5版, A，B")
    ['在', 'windows', '95', '3.5', '版', ',', 'ab']
    """
    # Takes seconds to import. The official script also splits sentences first, which needs a
    # trained model; hardly any answer contains the end of an English sentence.
    from nltk.tokenize import NLTKWordTokenizer

    # The odd places hold the Chinese characters.
    parts = re.split(r"([\u4e00-\u9fa5])", _without_punctuation(text))
    words = NLTKWordTokenizer()
    found: list[str] = []
    for index, part in enumerate(parts):
        found += [part] if index % 2 else words.tokenize(part)
    return found


def _cmrc_exact(predicted: str, answers: Sequence[str]) -> float:
    return float(_without_punctuation(predicted) in map(_without_punctuation, answers))


def _cmrc_f1(predicted: str, answers: Sequence[str]) -> float:
    segments, scores = _segments(predicted), []
    for right in map(_segments, answers):
        run = difflib.SequenceMatcher(None, segments, right, autojunk=False).find_longest_match()
        scores.append(_f1(run.size, len(segments), len(right)))
    return max(scores)
