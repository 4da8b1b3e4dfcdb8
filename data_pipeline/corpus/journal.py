"""What an unfinished preparation has done so far, in an SQLite file beside its shards."""

import contextlib
import errno
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError

JOURNAL_FILE = "progress.sqlite"


@contextlib.contextmanager
def output_folder(folder: Path, settings: dict[str, Any]) -> Iterator["Journal"]:
    """Makes the output folder if it does not exist, and opens the journal in it.

    If a mistake is found in the block before anything was committed, nothing is left behind, so
    that the corrected command can run.
    """
    known = os.path.exists(folder / JOURNAL_FILE)
    made = [parent for parent in (folder, *folder.parents) if not os.path.exists(parent)]
    try:
        with contextlib.closing(_open_journal(folder)) as journal:
            try:
                journal.expect("settings", settings)
                yield journal
            except BaseException as error:
                untouched = {file.name for file in folder.iterdir()} == {JOURNAL_FILE}
                mistake = isinstance(error, DataError) or untouched
                if mistake and not known and journal.progress() is None:
                    journal.close()
                    for file in folder.iterdir():
                        file.unlink()
                    for empty in made:
                        with contextlib.suppress(OSError):  # others may use a parent by now
                            empty.rmdir()
                raise
    except (OSError, sqlite3.OperationalError) as error:
        if not _is_full_disk(error):
            raise
        raise DataError(
            f"the disk of {folder} is full; free some space and repeat the same command, which "
            "continues after the last finished shard"
        ) from None


def _open_journal(folder: Path) -> "Journal":
    path = folder / JOURNAL_FILE
    try:
        if folder.exists() and not folder.is_dir():
            raise DataError(f"--output {folder} is a file; name a folder")
        if not path.exists() and folder.is_dir() and any(folder.iterdir()):
            raise DataError(f"--output {folder} holds other files; name a new or an empty folder")
        folder.mkdir(parents=True, exist_ok=True)
        return Journal(path)
    except (OSError, sqlite3.OperationalError) as error:
        if _is_full_disk(error):
            raise
        reason = getattr(error, "strerror", error)
        raise DataError(
            f"--output {folder} cannot be made or written to ({reason}); name another folder"
        ) from None
    except sqlite3.DatabaseError as error:
        raise DataError(
            f"{path} is damaged ({error}); delete the folder {folder} and start again"
        ) from None


def _is_full_disk(error: Exception) -> bool:
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    return full or "disk is full" in str(error)


class Journal:
    """Progress and the keys of the documents seen, committed together with each finished shard.

    A process that dies loses what came after the last commit, including the documents' keys, so
    the next one does the same work again with the same outcome. The keys need no memory.
    """

    def __init__(self, path: Path):
        self.path = path
        self._connection = sqlite3.connect(path)
        try:
            self._connection.executescript(
                """
                PRAGMA synchronous = NORMAL;
                CREATE TABLE IF NOT EXISTS records (name TEXT PRIMARY KEY, value);
                CREATE TABLE IF NOT EXISTS documents (key BLOB PRIMARY KEY) WITHOUT ROWID;
                """
            )
        except BaseException:  # a damaged file, a folder that cannot be written to
            self._connection.close()
            raise

    def expect(self, name: str, value: dict[str, Any]) -> None:
        """Records what a preparation is made with, once; later calls must give the same value."""
        started_with = self._read(name)
        if started_with is None:
            self._write(name, value)
            self._connection.commit()
        elif started_with != value:
            raise DataError(
                f"{self.path.parent} holds an unfinished preparation with other settings or input "
                f"({difference(started_with, value)}); repeat its command to finish it, or "
                "delete the folder"
            )

    def progress(self) -> dict[str, Any] | None:
        """What the last `commit` recorded, None before the first."""
        return self._read("progress")

    def add_document(self, key: bytes) -> bool:
        """Records a document's key; False if it was seen before."""
        cursor = self._connection.execute("INSERT OR IGNORE INTO documents VALUES (?)", (key,))
        return cursor.rowcount == 1

    def commit(self, progress: dict[str, Any]) -> None:
        """Makes `progress` and all keys added so far permanent: both or neither."""
        self._write("progress", progress)
        self._connection.commit()

    def close(self) -> None:
        self._connection.close()

    def _read(self, name: str) -> Any:
        query = "SELECT value FROM records WHERE name = ?"
        row = self._connection.execute(query, (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def _write(self, name: str, value: Any) -> None:
        row = name, json.dumps(value)
        self._connection.execute("INSERT OR REPLACE INTO records VALUES (?, ?)", row)


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The settings that differ, on one line, such as "language: 'en' → 'zh'"."""
    return ", ".join(
        f"{name}: {_short(before.get(name))} → {_short(now.get(name))}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
