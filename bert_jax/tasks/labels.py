"""The classes of the training data, and examples that lack one or have another."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from data_pipeline.errors import DataError

MANY = 200  # classes; up to this number each row may have its own


def check_labelled(examples: Iterable[Any], truth: str = "label", what: str = "label") -> None:
    """Rejects an example whose attribute `truth`, the `what` of messages, is None."""
    for example in examples:
        if getattr(example, truth) is None:
            raise DataError(f"{example.place}: there is no {what}; training needs one in each row")


def classes_of(labels: Iterable[str]) -> tuple[str, ...]:
    """The labels that occur, sorted; rejects a single one, and nearly as many as rows."""
    found = Counter(labels)
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
    return in_order(found)


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Sorted: by value if all are numbers, else by characters.

    >>> in_order(["10", "9", "-1"]), in_order(["b", "10", "9"])
    (('-1', '9', '10'), ('10', '9', 'b'))
    """
    names = sorted(labels)
    if all(name.removeprefix("-").isdecimal() for name in names):
        names.sort(key=int)
    return tuple(names)


def check_known(
    place: str,
    name: str,
    known: Sequence[str],
    *,
    kind: str = "label",
    where: str = "the training data",
) -> None:
    """Rejects an unknown class; messages call it a `kind`, and the known ones those of `where`."""
    if name not in known:
        raise DataError(
            f"{place}: the {kind} {shortened(name, 60)!r} is not among those of {where}: "
            f"{shortened(', '.join(known))}; correct it, leave it out, or train with it"
        )


def shortened(text: str, most: int = 500) -> str:
    """A text for a message, cut to `most` characters."""
    return text if len(text) <= most else f"{text[:most]} ..."
