"""Examples of one text or a pair with a label, a number or several labels."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from data_pipeline.clean import clean_text
from data_pipeline.errors import DataError
from data_pipeline.finetune.features import Feature, Features, encode_all, pair_inputs
from data_pipeline.finetune.tables import Row, read_rows
from data_pipeline.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class TextExample:
    """One text or a pair.

    Attributes:
      place: where it stands, for messages and predictions.
      first: the text.
      second: its partner, None without.
      label: name of the class, the number as text, or names parted by `SEPARATOR`; None where it is
        not known.
    """

    place: str
    first: str
    second: str | None
    label: str | None


SEPARATOR = ","  # between the labels of a multi-label example


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which columns of a table make an example.

    Attributes:
      first: column of the text.
      second: column of its partner; empty for single texts.
      label: column of the label; a file without it is one to predict.
      header: names of the columns where files have none.
      unlabelled: values of the label that mean "none"; such rows are left out and counted.
      group: column whose equal values make rows one group, for ranking; `first` if it is empty.
    """

    first: str = "text"
    second: str = ""
    label: str = "label"
    header: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    group: str = ""

    def renamed(self, names: Iterable[tuple[str, str]]) -> "Columns":
        """The columns of a table that has other names for some of them.

        >>> Columns("#1 String", label="Quality").renamed([("Quality", "label")])
        Columns(first='#1 String', second='', label='label', header=(), unlabelled=(), group='')
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
    """Columns that a user names; None keeps the task's own. See `Columns`.

    Attributes:
      first: column of the text.
      second: column of its partner.
      label: column of the label.
      header: names of the columns of files that have none.
      group: column of what the rows of a group share, of tasks that rank.
    """

    first: str | None = None
    second: str | None = None
    label: str | None = None
    header: tuple[str, ...] | None = None
    group: str | None = None

    def changes(self) -> dict[str, Any]:
        """The fields that are given."""
        return {name: value for name, value in vars(self).items() if value is not None}


def read_texts(source: str, columns: Columns) -> tuple[list[TextExample], list[str]]:
    """The examples of a table.

    Returns:
      (examples, a line for each row that is left out because its label says "none").

    Raises:
      DataError: a column is not there, or a text is empty.
    """
    examples, skipped = [], []
    for row in read_rows(source, columns.header):
        label = _label(row, columns)
        if label is not None and label in columns.unlabelled:
            skipped.append(f"{row.place}: its {columns.label} is {label!r}, so it has none")
            continue
        second = text_of(row, columns.second) if columns.second else None
        examples.append(TextExample(row.place, text_of(row, columns.first), second, label))
    return examples, skipped


def typed_example(first: str, second: str | None) -> TextExample:
    """The example of a text, or a pair, that a person typed.

    Raises:
      DataError: one is empty.
    """
    row = Row("typed", {"text": first, "second text": second})
    return TextExample(
        row.place,
        text_of(row, "text"),
        None if second is None else text_of(row, "second text"),
        None,
    )


def text_of(row: Row, column: str) -> str:
    """The cleaned text of a column.

    Raises:
      DataError: there is no such column, or nothing in it.
    """
    value = row[column]
    text = clean_text("" if value is None else str(value))
    if not text:
        raise DataError(f"{row.place}: its {column} is empty; leave the row out or fill it in")
    return text


def _label(row: Row, columns: Columns) -> str | None:
    if columns.label not in row.values:
        return None
    value: Any = row.values[columns.label]
    if isinstance(value, list):
        return SEPARATOR.join(map(str, value))
    return "" if value is None else str(value)


def labels_of(examples: Iterable[TextExample], multi_label: bool = False) -> tuple[str, ...]:
    """The labels that occur, sorted: numbers by value, names by their characters.

    Raises:
      DataError: an example has none, or there is only one.
    """
    found: Counter[str] = Counter()
    for example in examples:
        if example.label is None or (not example.label and not multi_label):
            raise DataError(f"{example.place}: there is no label; training needs one in each row")
        found.update(split_labels(example.label) if multi_label else [example.label])
    if len(found) < 2 and not multi_label:
        raise DataError(
            f"all {found.total():,} training rows have the label {next(iter(found), None)!r}; "
            "classification needs at least two"
        )
    if all(label.removeprefix("-").isdecimal() for label in found):
        return tuple(sorted(found, key=int))
    return tuple(sorted(found))


def split_labels(label: str) -> list[str]:
    """The names of a multi-label example."""
    return [name.strip() for name in label.split(SEPARATOR) if name.strip()]


def text_features(
    examples: Sequence[TextExample],
    tokenizer: Tokenizer,
    max_length: int,
    target: Callable[[TextExample], np.ndarray | np.generic],
    weight: Callable[[TextExample], float],
) -> Features:
    """One feature for each example.

    Args:
      examples: with or without labels.
      tokenizer: the model's.
      max_length: tokens, with [CLS] and [SEP]; what is longer is cut and counted.
      target: an example's `labels`.
      weight: its weight in the loss; 0 where the label is not known.
    """
    first = encode_all(tokenizer, [example.first for example in examples])
    second = encode_all(tokenizer, [example.second or "" for example in examples])
    rows, cut = [], 0
    for number, example in enumerate(examples):
        pair = second[number] if example.second is not None else None
        inputs = pair_inputs(tokenizer, first[number], pair, max_length)
        cut += inputs.cut > 0
        values = {"labels": target(example), "weights": np.float32(weight(example))}
        rows.append(Feature(inputs.tokens, {k: np.asarray(v) for k, v in values.items()}, number))
    return Features(rows, cut)
