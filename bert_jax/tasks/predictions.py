"""Predictions, and those of them that can be scored."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

Prediction = dict[str, Any]
Predictions = Sequence[Prediction]
Scores = dict[str, float]
Truth = TypeVar("Truth")


def known(**values: Any) -> Prediction:
    """The values that are known, not None."""
    return {name: value for name, value in values.items() if value is not None}


def with_truth(
    truths: Iterable[Truth | None], predictions: Predictions
) -> tuple[list[Truth], list[Prediction]]:
    """The known truths and the predictions for the same examples; the others are not scored."""
    true, found = [], []
    for truth, prediction in zip(truths, predictions, strict=True):
        if truth is not None:
            true.append(truth)
            found.append(prediction)
    return true, found
