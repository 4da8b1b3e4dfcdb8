"""Tables with a column for each phase of a pre-training."""

from collections.abc import Mapping

from rich.table import Table


def phase_table(title: str, phases: Mapping[int, Mapping[str, str]]) -> Table:
    """A table from {number of a phase: {name: figure}}, with "-" where a phase lacks a figure."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for number in phases:
        table.add_column(f"phase {number}", justify="right")
    for name in dict.fromkeys(name for figures in phases.values() for name in figures):
        table.add_row(name, *(figures.get(name, "-") for figures in phases.values()))
    return table
