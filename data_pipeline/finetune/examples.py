"""What a reader of a task's files gives."""

from collections.abc import Mapping
from typing import Generic, NamedTuple, TypeVar

Example = TypeVar("Example")


class Examples(NamedTuple, Generic[Example]):
    """The examples of a file.

    Attributes:
      rows: the examples.
      skipped: a line for each that was left out, saying which and why.
      note: what else there is to say of the file.
      unusable: of rows that can only be predicted, neither learned from nor scored: number in
        `rows`, and a line that says which and why.
      unlabelled: where no row has a label, a line that says so, and how to know.
    """

    rows: list[Example]
    skipped: list[str]
    note: str = ""
    unusable: Mapping[int, str] = {}
    unlabelled: str = ""

    def usable(self) -> "Examples[Example]":
        """The same without what can only be predicted, which is skipped then."""
        rows = [row for number, row in enumerate(self.rows) if number not in self.unusable]
        skipped = [*self.skipped, *self.unusable.values()]
        return self._replace(rows=rows, skipped=skipped, unusable={})
