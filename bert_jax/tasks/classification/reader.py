"""Examples of one text or a pair with a label, a number or several labels."""

import dataclasses
from collections.abc import Sequence

from bert_jax.tasks.columns import Columns, no_labels, text_of
from bert_jax.tasks.labels import shortened
from data_pipeline.errors import DataError
from data_pipeline.finetune.examples import Examples
from data_pipeline.finetune.tables import Row, plain_text, read_rows


@dataclasses.dataclass(frozen=True)
class TextExample:
    """One text or a pair.

    Attributes:
      place: where it is, for messages and predictions.
      second: the partner of the text, None without.
      label: the class, or the number as text; None where it is not known.
      labels: the classes where an example has any number of them; None where they are not known.
    """

    place: str
    first: str
    second: str | None
    label: str | None
    labels: tuple[str, ...] | None = dataclasses.field(default=None, kw_only=True)


def read_texts(source: str, columns: Columns, several: bool = False) -> Examples[TextExample]:
    """The examples of a table, see `tables.read_rows`.

    With `several`, an example has any number of labels, in a JSON array or separated by commas. An
    empty label is an unknown one; with `several` it means no label, if other rows of the file have
    some.
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
        labels = _labels(row, columns.label) if several else None
        label = None if several else _label(row, columns.label)
        why = ""
        if columns.label in row.values and (label or "") in columns.unlabelled:
            why = f"{row.place}: its {columns.label} is {row[columns.label]!r}, so it has none"
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
    truths = (example.labels if several else example.label for example in examples)
    unlabelled = no_labels(source, rows, columns.label, truths)
    return Examples(examples, [], _header_note(examples, columns), unusable, unlabelled)


def _header_note(examples: Sequence[TextExample], columns: Columns) -> str:
    """A doubt about a first row whose label no other row has, where the file has no header."""
    labels = [example.label for example in examples]
    if not columns.header or len(labels) < 3 or labels[0] is None or labels[0] in labels[1:]:
        return ""
    try:
        float(labels[0])
    except ValueError:
        return (
            f"no other row has the label {shortened(labels[0], 40)!r} of the first; if that row is "
            "a header, delete it, or leave out --columns.header if you typed it"
        )
    return ""  # a number is not the name of a column


def typed_example(first: str, second: str | None) -> TextExample:
    """The example of a text or a pair typed by a user."""
    row = Row("typed", {"text": first, "second text": second})
    other = None if second is None else text_of(row, "second text")
    return TextExample(row.place, text_of(row, "text"), other, None)


def _label(row: Row, column: str) -> str | None:
    value = row.values.get(column)
    if isinstance(value, list):
        raise DataError(
            f"{row.place}: its {column} is a list, {str(value)[:40]}; the task multilabel takes "
            "several labels"
        )
    return None if value is None else plain_text(value, row.place, column).strip() or None


def _labels(row: Row, column: str) -> tuple[str, ...] | None:
    value = row.values.get(column)
    if value is None:
        return None
    if not isinstance(value, list):
        return split_labels(plain_text(value, row.place, column))
    names = tuple(plain_text(name, row.place, column).strip() for name in value)
    if "" in names:
        raise DataError(
            f"{row.place}: its {column} holds an empty name, in {value!r}; leave it out"
        )
    return names


def split_labels(cell: str) -> tuple[str, ...]:
    """The labels of a multi-label example in a cell of a table."""
    return tuple(name.strip() for name in cell.split(",") if name.strip())
