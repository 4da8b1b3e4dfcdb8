"""Rows of tables, with their places: TSV, CSV, JSON Lines, JSON and TensorFlow Datasets."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_pipeline import tfds
from data_pipeline.errors import DataError
from data_pipeline.files import parse_json, read_json, read_text

_SLICED = re.compile(r"(.+)\[(-?\d+)?:(-?\d+)?\]")


class NoColumnError(DataError):
    """A table has no column of this name."""

    def __init__(self, message: str, column: str):
        super().__init__(message)
        self.column = column


class Row(NamedTuple):
    """One row of a table: its values by column, and its place, "file:line", for messages."""

    place: str
    values: dict[str, Any]

    def __getitem__(self, column: str) -> Any:  # type: ignore[override]
        """The value of a column; raises a `NoColumnError` that names the columns."""
        if column in self.values:
            return self.values[column]
        names = ", ".join(map(str, self.values))
        message = f"{self.place}: there is no column {column!r}; there are: {names}"
        if "\t" in names:
            message += "; its columns are separated by tabs: name the file .tsv"
        elif ";" in names:
            message += "; columns of a .csv are separated by commas"
        raise NoColumnError(message, column)


def split_source(source: str) -> tuple[str, slice]:
    """The file of "FILE[A:B]", and the slice of its rows.

    >>> split_source("data.jsonl[:-200]"), split_source("data.jsonl")
    (('data.jsonl', slice(None, -200, None)), ('data.jsonl', slice(None, None, None)))
    """
    found = _SLICED.fullmatch(source)
    if found is None:
        return source, slice(None)
    path, start, stop = found.groups()
    return path, slice(int(start) if start else None, int(stop) if stop else None)


def suffix_of(source: str) -> str:
    """The suffix of a file's name, in lower case.

    >>> suffix_of("data.JSONL[:-200]")
    '.jsonl'
    """
    return Path(split_source(source)[0]).suffix.lower()


def plain_text(value: Any, place: str, name: str) -> str:
    """A text, or the text of a number or boolean, from JSON or TensorFlow Datasets.

    `place` and `name`, of the column, are for messages.
    """
    if not isinstance(value, str | int | float) or value != value:
        shown = json.dumps(value, ensure_ascii=False, default=str)
        raise DataError(f"{place}: its {name} must hold text, not {shown[:40]}")
    return str(value)


def filled(text: str, place: str, name: str) -> str:
    """The text, which must not be blank. Arguments as for `plain_text`."""
    if not text.strip():
        raise DataError(f"{place}: its {name} is empty; leave it out or fill it in")
    return text


def read_rows(
    source: str, header: Sequence[str] = (), damaged: dict[str, str] | None = None
) -> list[Row]:
    """All rows of a table.

    Args:
      source: a file whose suffix gives its format: .tsv and .txt (tabs; quotes are ordinary
        characters), .csv (commas, quoted as in RFC 4180), .jsonl and .json (an object per line, or
        one array), with "[A:B]" after it for some of its rows; or "tfds:NAME/CONFIG/SPLIT".
      header: names of the columns where a .tsv, .txt or .csv has none. A first line with one of
        them in a cell is a header all the same, and is used instead.
      damaged: receives a line for each row that does not fit the header, by its place; its missing
        cells are then empty, and extra ones are dropped. None rejects such a row.
    """
    if source.startswith(tfds.PREFIX):
        return list(_tfds_rows(source))
    path, rows = split_source(source)
    lines = read_lines(path)
    while lines and not lines[-1]:
        lines.pop()
    if suffix_of(path) in (".jsonl", ".json"):
        return list(_json_rows(path, lines))[rows]
    if suffix_of(path) == ".csv":
        parsed = _csv_rows(path, lines)
    else:
        parsed = ((number, line.split("\t")) for number, line in enumerate(lines, 1))
    return list(_named_rows(path, parsed, list(header), damaged))[rows]


def read_lines(source: str) -> list[str]:
    """The lines of a UTF-8 file, which end with LF or CR LF and nothing else."""
    lines = read_text(source).split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _named_rows(
    source: str,
    parsed: Iterator[tuple[int, list[str]]],
    names: list[str],
    damaged: dict[str, str] | None,
) -> Iterator[Row]:
    _check_different(names, "--columns.header")
    whose, is_first = "this task", True
    for number, cells in parsed:
        if cells == [""] and (is_first or len(names) > 1):
            continue  # not a row; in a table of one column it is an empty one
        may_be_header, is_first = is_first, False
        if may_be_header and (not names or set(cells) & set(names)):
            names, whose = cells, "its header"
            _check_different(names, f"{source}:{number}: the header")
            continue
        if len(cells) != len(names):
            line = (
                f"{source}:{number} has {counted(len(cells))}, not the {len(names)} of {whose} "
                f"({', '.join(names)})"
            )
            if damaged is None:
                raise DataError(line)
            damaged[f"{source}:{number}"] = line
            cells = (cells + [""] * len(names))[: len(names)]
        yield Row(f"{source}:{number}", dict(zip(names, cells, strict=True)))


def counted(columns: int) -> str:
    """A number of columns, for messages.

    >>> counted(1), counted(2)
    ('1 column', '2 columns')
    """
    return f"{columns} column" + "s" * (columns != 1)


def _check_different(names: Sequence[str], whose: str) -> None:
    if len(set(names)) < len(names):
        raise DataError(f"{whose} names a column twice: {', '.join(names)}")


def _csv_rows(source: str, lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(2**31 - 1)  # by default a field of 131,072 characters is rejected
    reader = csv.reader((line + "\n" for line in lines), strict=True)
    before = 0  # lines; a quoted field may span several
    try:
        for cells in reader:
            yield before + 1, cells or [""]
            before = reader.line_num
    except csv.Error as error:
        raise DataError(f"{source}:{reader.line_num} is not CSV ({error})") from None


def _json_rows(source: str, lines: list[str]) -> Iterator[Row]:
    filled_lines = [(f"{source}:{n}", line) for n, line in enumerate(lines, 1) if line.strip()]
    if filled_lines and filled_lines[0][1].lstrip().startswith("["):
        records = [(f"{source}, element {n}", value) for n, value in enumerate(read_json(source))]
    else:
        records = [(place, parse_json(line, place)) for place, line in filled_lines]
    for place, value in records:
        if not isinstance(value, dict):
            raise DataError(f"{place} is not a JSON object, but {str(value)[:40]!r}")
        yield Row(place, value)


def _tfds_rows(source: str) -> Iterator[Row]:
    name, _, split = source.rpartition("/")
    if not name:
        raise DataError(f"{source} does not name a split; write {tfds.PREFIX}NAME/CONFIG/SPLIT")
    dataset = tfds.Dataset(name)
    dataset.download(split)
    features = dataset.info.features
    records = list(dataset.records(split))
    if records and isinstance(records[0].get("idx"), int | np.integer):
        # The order of GLUE's official files; records are stored by a hash of their keys.
        records.sort(key=lambda record: int(record["idx"]))
    for number, record in enumerate(records):
        values = {
            column: _named(features[column], value)
            if hasattr(features[column], "int2str")  # classes, or lists of them
            else _plain(value)
            for column, value in record.items()
        }
        yield Row(f"{source}, row {number}", values)


def _named(feature: Any, numbers: Any) -> Any:
    """The names of classes by their numbers; None for -1, an unknown class."""
    if np.ndim(numbers):
        return [_named(feature, number) for number in numbers]
    return feature.int2str(int(numbers)) if numbers >= 0 else None


def _plain(value: Any) -> Any:
    """Bytes as text, and NumPy's arrays and numbers as lists and numbers."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
