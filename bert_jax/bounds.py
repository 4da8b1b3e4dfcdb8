"""Bounds of options, given as intervals in the metadata of their fields."""

import dataclasses
import math
from typing import Any

from bert_jax.errors import UserError


def check_bounds(config: Any, prefix: str = "") -> None:
    """Refuses a number outside its interval in a dataclass, or in a dataclass within it.

    A field has `metadata={"interval": "[0, 1)"}`; None is in every interval, and each element of a
    sequence must be. `prefix`, such as "model.", precedes the fields' names in messages.
    """
    for field in dataclasses.fields(config):
        _check(getattr(config, field.name), prefix + field.name, field.metadata.get("interval"))


def _check(value: Any, name: str, interval: str | None) -> None:
    if dataclasses.is_dataclass(value):
        check_bounds(value, f"{name}.")
    elif isinstance(value, (tuple, list)):
        for number, item in enumerate(value):
            _check(item, f"{name}.{number}" if dataclasses.is_dataclass(item) else name, interval)
    elif interval and value is not None and not _contains(interval, value):
        words = "finite" if value == math.inf else _in_words(interval)
        raise UserError(f"{name} is {value}; it must be {words}")


def _contains(interval: str, value: float) -> bool:
    low, high = map(float, interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    return above and (value <= high if interval[-1] == "]" else value < high)


def _in_words(interval: str) -> str:
    """What a value must be.

    >>> [_in_words(interval) for interval in ("[1, inf)", "(0, inf)", "[0, 1)")]
    ['at least 1', 'above 0', 'in [0, 1)']
    """
    low, high = interval[1:-1].split(", ")
    if math.isfinite(float(high)):
        return f"in {interval}"
    return f"{'at least' if interval[0] == '[' else 'above'} {low}"
