"""Examples of one text or a pair with a label, a number or several labels."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.finetune.examples import Examples
from data_pipeline.finetune.features import Feature, Features, encode_all, pair_inputs
from data_pipeline.finetune.tables import Row, plain_text, read_rows
from data_pipeline.text.clean import clean_text
from data_pipeline.tokenization.interface import Tokenizer


@dataclasses.dataclass(frozen=True)
class TextExample:
    """One text or a pair.

    Attributes:
      place: where it stands, for messages and predictions.
      first: the text.
      second: its partner, None without.
      label: name of the class, or the number as text; None where it is not known.
      labels: names of the classes where an example has any number of them; None where they are not
        known.
    """

    place: str
    first: str
    second: str | None
    label: str | None
    labels: tuple[str, ...] | None = dataclasses.field(default=None, kw_only=True)


SEPARATOR = ","  # between the labels of a multi-label example in a table
MANY = 200  # classes; so many may well have a row each
NO_LABEL = "{}: there is no label; training needs one in each row"


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which columns of a table make an example.

    Attributes:
      first: column of the text.
      second: column of its partner; empty for single texts.
      label: column of the label; a file without it is one to predict.
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


def read_texts(source: str, columns: Columns, several: bool = False) -> Examples[TextExample]:
    """The examples of a table.

    An empty label is one that is not known. Only where `several` labels may stand, and other rows
    of the file have some, it says that there is none.

    Args:
      source: see `tables.read_rows`.
      columns: of the table.
      several: an example has any number of labels, a JSON array or parted by `SEPARATOR`.

    Raises:
      DataError: a column is not there, a text is empty, or a label is none.
    """
    damaged: dict[str, str] | None = {} if columns.damaged else None
    rows = read_rows(source, columns.header, damaged)
    examples: list[TextExample] = []
    unusable = {}
    for row in rows:
        first, second = (
            text_of(row, column, may_be_empty=columns.damaged) if column else None
            for column in (columns.first, columns.second)
        )
        value = row.values.get(columns.label)
        labels = _labels(value, row.place, columns.label) if several else None
        label = None if several else _label(row, columns)
        why = ""
        if columns.label in row.values and (label or "") in columns.unlabelled:
            why = f"{row.place}: its {columns.label} is {value!r}, so it has none"
        elif damaged and row.place in damaged:
            why = damaged[row.place]
        elif "" in (first, second):
            why = f"{row.place}: its {columns.second if first else columns.first} is empty"
        if why:
            unusable[len(examples)] = why
            label = labels = None
        examples.append(TextExample(row.place, first or "", second, label, labels=labels))
    if several and not any(example.labels for example in examples):
        examples = [dataclasses.replace(example, labels=None) for example in examples]
    unlabelled = ""
    if rows and all(example.label is None and example.labels is None for example in examples):
        unlabelled = no_labels(source, rows, columns.label)
    return Examples(examples, [], _header_note(examples, columns), unusable, unlabelled)


def _header_note(examples: Sequence[TextExample], columns: Columns) -> str:
    """A doubt about a first row whose label is no other row's, where the file has no header."""
    labels = [example.label for example in examples]
    if not columns.header or len(labels) < 3 or labels[0] is None or labels[0] in labels[1:]:
        return ""
    if _is_number(labels[0]):  # no name of a column
        return ""
    return (
        f"no other row has the label {shortened(labels[0], 40)!r} of the first; if that row is a "
        "header, delete it, or leave out --columns.header if you typed it"
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def no_labels(source: str, rows: Sequence[Row], column: str) -> str:
    """What is to be said where no row has a label, which stands in that column."""
    try:
        rows[0][column]
    except DataError as error:
        return str(error)
    return f"{source}: no row has a value in its column {column!r}"


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


def text_of(row: Row, column: str, may_be_empty: bool = False) -> str:
    """The cleaned text of a column; the texts of a list, such as keywords, with spaces between.

    Raises:
      DataError: there is no such column, or nothing or no text in it.
    """
    value = row[column]
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = " ".join(value)
    text = clean_text("" if value is None else plain_text(value, row.place, column))
    if not text and not may_be_empty:
        raise DataError(f"{row.place}: its {column} is empty; leave the row out or fill it in")
    return text


def _label(row: Row, columns: Columns) -> str | None:
    value = row.values.get(columns.label)
    if isinstance(value, list):
        raise DataError(
            f"{row.place}: its {columns.label} is a list, {str(value)[:40]}; the task multilabel "
            "takes several labels"
        )
    if value is None:
        return None
    return plain_text(value, row.place, columns.label).strip() or None


def _labels(value: Any, place: str, column: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        return split_labels(plain_text(value, place, column))
    names = tuple(plain_text(name, place, column).strip() for name in value)
    if "" in names:
        raise DataError(f"{place}: its {column} holds an empty name, in {value!r}; leave it out")
    return names


def split_labels(cell: str) -> tuple[str, ...]:
    """The names of a multi-label example in a cell of a table."""
    return tuple(name.strip() for name in cell.split(SEPARATOR) if name.strip())


def labels_of(examples: Iterable[TextExample]) -> tuple[str, ...]:
    """The labels that occur, sorted: numbers by value, names by their characters.

    Raises:
      DataError: an example has none, there is only one, or nearly each example has its own.
    """
    found: Counter[str] = Counter()
    for example in examples:
        if example.label is None:
            raise DataError(NO_LABEL.format(example.place))
        found[example.label] += 1
    if len(found) < 2:
        raise DataError(
            f"all {found.total():,} training rows have the label {next(iter(found), None)!r}; "
            "classification needs at least two"
        )
    if len(found) > max(MANY, 0.9 * found.total()):
        raise DataError(
            f"the {found.total():,} training rows have {len(found):,} different labels, such as "
            f"{shortened(next(iter(found)), 40)!r}; is that the column of the texts? Name the "
            "columns: --columns.first, --columns.label"
        )
    return _sorted(found)


def label_sets_of(examples: Sequence[TextExample]) -> tuple[str, ...]:
    """The same of examples with several labels.

    Raises:
      DataError: the labels of an example are not known, none has any, or all have the same.
    """
    found: Counter[str] = Counter()
    for example in examples:
        if example.labels is None:
            raise DataError(NO_LABEL.format(example.place))
        found.update(set(example.labels))
    if not found:
        raise DataError("no training row has a label; training needs some")
    if set(found.values()) == {len(examples)}:
        raise DataError(
            f"all {len(examples):,} training rows have the same labels, "
            f"{shortened(', '.join(_sorted(found)))}; there is nothing to tell apart"
        )
    return _sorted(found)


def _sorted(labels: Iterable[str]) -> tuple[str, ...]:
    names = sorted(labels)
    if all(name.removeprefix("-").isdecimal() for name in names):
        names.sort(key=int)
    return tuple(names)


def shortened(text: str, most: int = 500) -> str:
    """A text for a message, with no more than so many characters of it."""
    return text if len(text) <= most else f"{text[:most]} ..."


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
