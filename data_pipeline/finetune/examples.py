"""What the reader of a task's files returns."""

from collections.abc import Mapping
from typing import Generic, NamedTuple, TypeVar

Example = TypeVar("Example")


class Examples(NamedTuple, Generic[Example]):
    """The examples of a file.

    Attributes:
      skipped: a line for each row that was left out, saying which and why.
      note: anything else to tell the user about the file.
      unusable: by index in `rows`, a line for each that can only be predicted, neither learned from
        nor scored, saying which and why.
      unlabelled: if no row has a label, a line that says so and why.
    """

    rows: list[Example]
    skipped: list[str]
    note: str = ""
    unusable: Mapping[int, str] = {}
    unlabelled: str = ""

    def usable(self) -> "Examples[Example]":
        """The same with the unusable rows skipped."""
        rows = [row for number, row in enumerate(self.rows) if number not in self.unusable]
        skipped = [*self.skipped, *self.unusable.values()]
        return self._replace(rows=rows, skipped=skipped, unusable={})
