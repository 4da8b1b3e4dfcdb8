"""Progress of a long task: a bar on a terminal, else a line now and then."""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 10.0


def tracked(
    values: Iterable[tuple[int, T]], label: str, total: int | None, done: int = 0
) -> Iterator[T]:
    """Passes values on, and shows how many bytes are done, the rate and the time left.

    `values` are pairs of a number of bytes and a value made of them, `total` is the sum of these
    numbers, None if unknown, and `done` is the number of bytes done before.
    """
    start = shown = time.monotonic()
    before = done
    with _bar(label, total, done) if sys.stderr.isatty() else contextlib.nullcontext() as bar:
        for size, value in values:
            yield value
            done += size
            now = time.monotonic()
            if bar:
                bar.update(bar.task_ids[0], completed=done)
            elif now - shown >= SECONDS_BETWEEN_LINES:
                shown = now
                line = _line(label, total, done, rate=(done - before) / (now - start))
                print(line, file=sys.stderr, flush=True)


def _bar(label: str, total: int | None, done: int) -> Any:
    from rich import progress
    from rich.console import Console

    bar = progress.Progress(
        "{task.description}",
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    bar.add_task(label, total=total, completed=done)
    return bar


def _line(label: str, total: int | None, done: int, rate: float) -> str:
    """One line of a log; bytes, and bytes per second.

    >>> _line("encoding", 75_000_000, 25_000_000, rate=2e6)
    'encoding: 25 MB of 75 MB, 25 s left, 2.0 MB/s'
    """
    left = f" of {total / 1e6:,.0f} MB, {(total - done) / rate:,.0f} s left" if total else ""
    return f"{label}: {done / 1e6:,.0f} MB{left}, {rate / 1e6:,.1f} MB/s"
