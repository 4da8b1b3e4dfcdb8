"""The files that leaderboards take."""

from collections.abc import Sequence
from typing import Any, Literal

from data_pipeline.files import json_lines

Leaderboard = tuple[str, Literal["glue", "clue"]]  # name of the file without its ending, and kind


def submission(leaderboard: Leaderboard | None, answers: Sequence[Any]) -> tuple[str, str] | None:
    """(file name, content) for a leaderboard, if there is one; the rows are numbered from 0.

    GLUE takes a table with a header, CLUE a JSON object a line.
    """
    if leaderboard is None:
        return None
    name, kind = leaderboard
    if kind == "glue":
        rows = [f"{number}\t{answer}\n" for number, answer in enumerate(answers)]
        return f"{name}.tsv", "index\tprediction\n" + "".join(rows)
    records = [{"id": number, "label": answer} for number, answer in enumerate(answers)]
    return f"{name}.json", json_lines(records)
