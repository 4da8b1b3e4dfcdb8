"""F1 by counts, for several kinds of tasks."""

from collections import Counter
from collections.abc import Collection


def f1(right: int, predicted: int, true: int) -> float:
    """2PR / (P + R) of P = right / predicted and R = right / true; 0 of nothing."""
    return 2 * right / max(predicted + true, 1)


def macro_f1(
    names: Collection[str], right: Counter[str], predicted: Counter[str], true: Counter[str]
) -> float:
    """The mean F1 of some classes by the counts of each; 0 of none."""
    by_name = [f1(right[name], predicted[name], true[name]) for name in names]
    return sum(by_name) / max(len(by_name), 1)
