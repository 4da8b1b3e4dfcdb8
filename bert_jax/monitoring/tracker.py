"""What a run shows of itself: metrics.jsonl, TensorBoard files and a progress bar."""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl, without a last line that a crash cut short."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


class Tracker:
    """Writes each logged step to metrics.jsonl and TensorBoard.

    Args:
      work_dir: the run's folder.
      resume_step: step from which the run continues; None for a fresh run. Rows of later steps,
        which a crash left behind, are removed: they will be computed again.
    """

    def __init__(self, work_dir: Path, resume_step: int | None):
        self.path = work_dir / "metrics.jsonl"
        kept = [] if resume_step is None else read_metrics(self.path)
        self.rows = [row for row in kept if row["step"] <= (resume_step or 0)]
        aside = self.path.with_name("metrics.jsonl.tmp")
        aside.write_text("".join(json.dumps(row) + "\n" for row in self.rows), encoding="utf-8")
        aside.rename(self.path)
        self._file: TextIO = open(self.path, "a", encoding="utf-8")  # noqa: SIM115
        import tensorboardX  # slow to import, and not every command tracks

        self._board = tensorboardX.SummaryWriter(
            str(work_dir / "tensorboard"), purge_step=0 if resume_step is None else resume_step + 1
        )

    def log(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """Adds a row of finite numbers, with the Unix time; `split` is "train" or "eval"."""
        row = {"step": step, "split": split, "time": round(time.time(), 3), **metrics}
        self.rows.append(row)
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        for name, value in metrics.items():
            self._board.add_scalar(f"{split}/{name}", value, step)

    def evaluations(self) -> list[dict[str, Any]]:
        """The rows of the evaluations so far."""
        return [row for row in self.rows if row["split"] == "eval"]

    def sync(self) -> None:
        """Forces everything logged so far to disk; called before a checkpoint of the same step."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._board.flush()

    def close(self) -> None:
        self.sync()
        self._file.close()
        self._board.close()


class SilentTracker(Tracker):
    """For hosts that write nothing: it keeps the rows in memory only."""

    def __init__(self) -> None:
        self.rows = []

    def log(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        self.rows.append({"step": step, "split": split, **metrics})

    def sync(self) -> None: ...

    def close(self) -> None: ...


class ProgressBar:
    """A progress bar on a terminal; elsewhere a plain line every few seconds.

    Args:
      total: number of steps.
      done: steps taken before.
      seconds_between_lines: of plain lines.
      shown: False prints nothing.
      name: what is counted.
    """

    def __init__(
        self,
        total: int,
        done: int,
        seconds_between_lines: float = 10.0,
        *,
        shown: bool = True,
        name: str = "step",
    ):
        self._name = name
        self._total = total
        self._done = done
        self._last_line = time.monotonic()
        self._lines: list[tuple[int, float]] = []  # steps taken at each line, and when
        self._seconds = seconds_between_lines
        self._text = ""
        self._text_step = done
        self._console = Console(file=sys.stderr, quiet=not shown)
        self._bar = Progress(
            TextColumn(name),
            MofNCompleteColumn(),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not (shown and self._console.is_terminal),
        )
        self._task = self._bar.add_task("", total=total, completed=done, text="compiling")

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def step(self, done: int) -> None:
        """Shows how many steps have been taken."""
        self._done = done
        self._bar.update(self._task, completed=done)
        self._line()

    def metrics(self, text: str) -> None:
        """Shows the latest figures, such as "loss 5.12 | 310 sequences/s"."""
        self._text, self._text_step = text, self._done
        self._bar.update(self._task, text=text)
        self._line()

    def _line(self) -> None:
        now = time.monotonic()
        if self._bar.disable and now - self._last_line >= self._seconds:
            self._last_line = now
            line = f"{self._name} {self._done}/{self._total} | {self._text or 'no figures yet'}"
            if self._text and self._text_step != self._done:
                line += f" ({self._name} {self._text_step})"
            if not self._lines or self._done > self._lines[-1][0]:
                self._lines.append((self._done, now))
            # From the later half of the lines: early steps compile, for each length of batches.
            steps, start = self._lines[(len(self._lines) - 1) // 2]
            if self._text and self._done > steps:
                left = (self._total - self._done) * (now - start) / (self._done - steps)
                line += f" | {_duration(left)} left"
            self.say(line)

    def say(self, text: str) -> None:
        """Prints a line that stays, above the bar."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> _duration(75), _duration(7384)
    ('1:15', '2:03:04')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
