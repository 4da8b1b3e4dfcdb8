"""Logits as probabilities, and numbers rounded for predictions."""

from collections.abc import Iterable, Sequence

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """float64 [..., C], for logits [..., C]."""
    from scipy import special  # slow to import, and not needed for the options of a task

    return np.asarray(special.softmax(logits.astype(np.float64), axis=-1))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """float64 [...], for logits [...]."""
    from scipy import special

    return np.asarray(special.expit(logits.astype(np.float64)))


def rounded(number: float | np.floating) -> float:
    """Rounded to the digits that predictions have."""
    return round(float(number), 6)


def by_label(labels: Sequence[str], probabilities: Iterable[float]) -> dict[str, float]:
    """The probability of each label, rounded."""
    return {label: rounded(p) for label, p in zip(labels, probabilities, strict=True)}
