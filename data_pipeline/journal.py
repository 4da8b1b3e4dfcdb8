"""What an unfinished preparation has done, in one SQLite file beside its shards."""

import json
import sqlite3
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError


class Journal:
    """Progress and the keys of the documents seen, committed together with each finished shard.

    A process that dies loses what came after the last commit, the documents' keys too, so that the
    next one can do the same work again with the same outcome. Memory is bounded: the keys live on
    disk.

    Args:
      path: the SQLite file, made if it is not there.
      identity: settings and inputs; the journal of another preparation is refused.

    Raises:
      DataError: the file belongs to a preparation with other settings or inputs.
    """

    def __init__(self, path: Path, identity: dict[str, Any]):
        self.path = path
        self._connection = sqlite3.connect(path)
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS records (name TEXT PRIMARY KEY, value)"
        )
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS documents (key BLOB PRIMARY KEY) WITHOUT ROWID"
        )
        started_with = self._read("identity")
        if started_with is None:
            self._write("identity", identity)
            self._connection.commit()
        elif started_with != json.loads(json.dumps(identity)):
            self._connection.close()
            raise DataError(
                f"{path.parent} holds an unfinished preparation with other settings or input "
                f"({difference(started_with, identity)}); repeat its command to finish it, or "
                "delete the folder"
            )

    def progress(self) -> dict[str, Any] | None:
        """What the last `commit` recorded, None before the first."""
        return self._read("progress")

    def add_document(self, key: bytes) -> bool:
        """Notes a document's key; False if it was seen before."""
        cursor = self._connection.execute("INSERT OR IGNORE INTO documents VALUES (?)", (key,))
        return cursor.rowcount == 1

    def commit(self, progress: dict[str, Any]) -> None:
        """Makes `progress` and all keys added so far permanent, both or neither."""
        self._write("progress", progress)
        self._connection.commit()

    def close(self) -> None:
        """Leaves the file for another run."""
        self._connection.close()

    def _read(self, name: str) -> Any:
        row = self._connection.execute(
            "SELECT value FROM records WHERE name = ?", (name,)
        ).fetchone()
        return json.loads(row[0]) if row else None

    def _write(self, name: str, value: Any) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO records VALUES (?, ?)", (name, json.dumps(value))
        )


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The settings that differ, such as "language: 'en' → 'zh'", on one line."""
    now = json.loads(json.dumps(now))
    return ", ".join(
        f"{name}: {_short(before.get(name))} → {_short(now.get(name))}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
