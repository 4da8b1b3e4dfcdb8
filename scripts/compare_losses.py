"""Compares the losses of two commits step by step, `python scripts/compare_losses.py OLD NEW`.

Both are checked out into a temporary folder and start the same recipe on the same corpus with this
Python. All numbers of a step in metrics.jsonl, apart from speed, must be the same to the last bit;
otherwise the first step that differs is shown, and the exit code is 1.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

EMBEDDED_VOCAB_SIZE = 8192  # of the recipe demo
# Fields of metrics.jsonl that differ between two runs of the same program.
SPEED = {
    "time",
    "sequences_per_second",
    "tokens_per_second",
    "padding_share",
    "input_wait_share",
    "model_flops_per_second",
    "mfu",
    "goodput",
}
Row = dict[str, Any]


def main(arguments: Sequence[str]) -> int:
    """Runs both commits and prints where they differ; returns the exit code."""
    parser = argparse.ArgumentParser(
        description="Compares the losses of two commits step by step.",
        epilog="Options after -- are passed to run_pretrain.py of both commits.",
    )
    parser.add_argument("commits", nargs=2, metavar="COMMIT", help="any name that git knows")
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--steps", type=int, default=60, help="number of steps to compare")
    parser.add_argument(
        "--corpus",
        type=Path,
        help="a prepared corpus; by default the first commit prepares the demo's",
    )
    words = [*arguments, "--"]
    end = words.index("--")
    request, extra = parser.parse_args(words[:end]), words[end + 1 : -1]
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        sides = [
            stack.enter_context(checkout(commit, folder / f"commit-{number}"))
            for number, commit in enumerate(request.commits)
        ]
        corpus = request.corpus or prepare_embedded(sides[0], folder / "corpus")
        found = []
        for number, side in enumerate(sides):
            print(f"{request.commits[number]}: running {request.steps} steps", flush=True)
            work_dir = folder / f"run-{number}"
            run = [request.recipe, f"--corpus={corpus.resolve()}", "--loop.log-every=1"]
            found.append(first_steps(side, [*run, *extra], work_dir, request.steps))
    difference = first_difference(*found)
    print(difference or f"equal to the last bit: {request.steps} steps")
    return 1 if difference else 0


@contextlib.contextmanager
def checkout(commit: str, folder: Path) -> Iterator[Path]:
    """A worktree of the repository that the current folder is in."""
    command = ["git", "worktree", "add", "--quiet", "--detach", str(folder), commit]
    if subprocess.run(command).returncode != 0:
        raise SystemExit(f"error: git cannot check out {commit}, see above; give a commit's name")
    try:
        yield folder
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", folder], check=True)


def prepare_embedded(side: Path, output: Path) -> Path:
    """The corpus of the recipe demo, prepared by one commit."""
    program = [sys.executable, "-m", "data_pipeline.prepare", "--input=embedded"]
    options = [f"--output={output}", f"--vocab-size={EMBEDDED_VOCAB_SIZE}"]
    subprocess.run([*program, *options], cwd=side, env=environment(side), check=True)
    return output


def environment(side: Path) -> dict[str, str]:
    """An environment in which packages are imported from a checkout, whatever is installed."""
    return os.environ | {"PYTHONPATH": str(side)}


def first_steps(side: Path, run: Sequence[str], work_dir: Path, steps: int) -> list[Row]:
    """The rows of a run's first steps, including evaluations.

    The run is stopped after them instead of being made shorter, which would change its schedule.
    """
    metrics, log = work_dir / "metrics.jsonl", work_dir.with_suffix(".log")
    with open(log, "w") as output:
        process = subprocess.Popen(
            [sys.executable, "run_pretrain.py", *run, f"--work-dir={work_dir}"],
            cwd=side,
            env=environment(side),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None and not _trained(read_rows(metrics), steps):
                time.sleep(0.2)
        finally:
            process.terminate()
            process.wait()
    rows = read_rows(metrics)
    if not _trained(rows, steps):
        sys.exit(f"error: the run of {side.name} ended before step {steps}:\n{log.read_text()}")
    return [row for row in rows if row["step"] <= steps]


def _trained(rows: Sequence[Row], steps: int) -> bool:
    return any(row["split"] == "train" and row["step"] >= steps for row in rows)


def read_rows(metrics: Path) -> list[Row]:
    """The complete lines of a metrics.jsonl that is being written."""
    if not metrics.is_file():
        return []
    *lines, _ = metrics.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines]


def first_difference(one: Sequence[Row], other: Sequence[Row]) -> str:
    """The first step at which two runs differ, with the differing numbers; empty if none do.

    >>> first_difference([{"step": 1, "split": "train", "loss": 0.1, "time": 1.0}],
    ...                  [{"step": 1, "split": "train", "loss": 0.10000001, "time": 2.0}])
    'the commits differ at step 1 (train): loss 0.1 -> 0.10000001'
    """
    sides = [{(row["step"], row["split"]): row for row in rows} for rows in (one, other)]
    for step, split in sorted(sides[0].keys() | sides[1].keys()):
        before, after = (side.get((step, split), {}) for side in sides)
        differing = [
            f"{name} {before.get(name)!r} -> {after.get(name)!r}"
            for name in before | after
            if name not in SPEED and repr(before.get(name)) != repr(after.get(name))
        ]
        if differing:
            return f"the commits differ at step {step} ({split}): {', '.join(differing)}"
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
