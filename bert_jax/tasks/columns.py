"""Which columns of a table make an example, and what users call them."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

from data_pipeline.errors import DataError
from data_pipeline.finetune.tables import Row, filled, plain_text
from data_pipeline.text.clean import clean_text


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which columns of a table make an example.

    Attributes:
      first: column of the text.
      second: column of its partner; empty for single texts.
      label: column of the label; a file without it can only be predicted.
      header: names of the columns where files have none.
      unlabelled: values of the label that mean "none"; such rows can only be predicted.
      group: column whose equal values make rows one group, for ranking; `first` if it is empty.
      damaged: whether the official files have rows that do not fit their header, or have no text;
        they can only be predicted.
    """

    first: str = "text"
    second: str = ""
    label: str = "label"
    header: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    group: str = ""
    damaged: bool = False

    def renamed(self, names: Iterable[tuple[str, str]]) -> "Columns":
        """The columns of a table that has other names for some of them.

        >>> Columns("#1 String", label="Quality").renamed([("Quality", "label")]).label
        'label'
        """
        other = dict(names)
        return dataclasses.replace(
            self,
            first=other.get(self.first, self.first),
            second=other.get(self.second, self.second),
            label=other.get(self.label, self.label),
        )


@dataclasses.dataclass(frozen=True)
class ColumnOptions:
    """Columns named by the user; None keeps the task's own. See `Columns`.

    Attributes:
      first: column of the text.
      second: column of its partner.
      label: column of the label.
      header: names of the columns, for files without a header.
      group: column whose value the rows of a group share, for tasks that rank.
    """

    first: str | None = None
    second: str | None = None
    label: str | None = None
    header: tuple[str, ...] | None = None
    group: str | None = None

    def changes(self) -> dict[str, Any]:
        """The fields that are given."""
        return {name: value for name, value in vars(self).items() if value is not None}


def text_of(row: Row, column: str, may_be_empty: bool = False) -> str:
    """The cleaned text of a column; a list of texts, such as keywords, is joined by spaces."""
    value = row[column]
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = " ".join(value)
    text = clean_text("" if value is None else plain_text(value, row.place, column))
    return text if may_be_empty else filled(text, row.place, column)


def number_of(label: Any, place: str, hint: str = "") -> float:
    """A label as a finite number."""
    try:
        number = float(label)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{place}: the label {label!r} is not a number{hint}")
    return number


def no_labels(source: str, rows: Sequence[Row], column: str, truths: Iterable[object]) -> str:
    """The message for a table in which no row has a label, else nothing.

    `truths` are those of the examples, None where one is not known.
    """
    if not rows or any(truth is not None for truth in truths):
        return ""
    try:
        rows[0][column]
    except DataError as error:
        return str(error)
    return f"{source}: no row has a value in its column {column!r}"
