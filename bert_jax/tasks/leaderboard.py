"""The files that leaderboards take."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal


def submission(name: str, kind: Literal["glue", "clue"], answers: Sequence[str]) -> tuple[str, str]:
    """(file name, content) for a leaderboard; the rows are numbered from 0.

    GLUE takes a table with a header, CLUE a JSON object a line.
    """
    if kind == "glue":
        rows = [f"{number}\t{answer}\n" for number, answer in enumerate(answers)]
        return f"{name}.tsv", "index\tprediction\n" + "".join(rows)
    records = [{"id": number, "label": answer} for number, answer in enumerate(answers)]
    return f"{name}.json", json_lines(records)


def json_lines(records: Iterable[Mapping[str, Any]]) -> str:
    """A JSON object a line."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
