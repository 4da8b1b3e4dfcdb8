"""Fine-tunes all weights, or only a small part of them: score, trained share, time and memory.

    python -m benchmarks.methods --model DIR --data DIR --output benchmarks/results/methods.json

Model and data as in `benchmarks.finetune`. Every method has its default settings and learning rate.
The memory is the most that the process had resident at any time; what is saved is the checkpoint of
the best epoch.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.finetune import (
    BATCH_SIZE,
    LENGTH,
    ROOT,
    TASKS,
    best_scores,
    epoch_seconds_of,
    epoch_times,
    later_epoch_times,
    score_of,
    training_data,
)
from bert_jax.tasks.registry import find_task
from configs.finetune import USUAL_RATES
from data_pipeline.files import write_json


class Run(NamedTuple):
    """What one run gave.

    Attributes:
      score: of its best epoch, by the task's first score.
      trained, parameters: how many numbers are trained, of how many.
      epoch_seconds: training time of each epoch.
      peak_bytes: largest resident memory of the process.
      saved_bytes: size of the checkpoint.
    """

    score: float
    trained: int
    parameters: int
    epoch_seconds: list[float]
    peak_bytes: int
    saved_bytes: int


def run(arguments: argparse.Namespace, name: str, method: str, seed: int, folder: Path) -> Run:
    """Runs run_finetune.py to its end."""
    inner, rows = training_data(name, arguments.rows)
    command = [
        sys.executable, "run_finetune.py", name, "--init-from", arguments.model.resolve(),
        "--data", arguments.data.resolve() / inner, "--train-examples", rows, "--seeds", seed,
        "--epochs", arguments.epochs, "--batch-size", BATCH_SIZE, "--sequence-length", LENGTH,
        "--method.name", method, "--work-dir", folder,
    ]  # fmt: skip
    words = [str(word) for word in command]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(words, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        output.seek(0)
        said = output.read()
    process.returncode = os.waitstatus_to_exitcode(status)  # wait4 took it from Popen
    if process.returncode:
        sys.exit(f"error: {shlex.join(words)} ended with exit code {process.returncode}\n{said}")
    found = re.search(r"trained: ([\d,]+) of ([\d,]+) parameters", said)
    assert found, said
    trained, parameters = (int(number.replace(",", "")) for number in found.groups())
    summary = json.loads((folder / "summary.json").read_text())
    checkpoint = folder / "checkpoints" / str(summary["step"])
    return Run(
        score_of(name, folder),
        trained,
        parameters,
        epoch_seconds_of(folder),
        usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        sum(file.stat().st_size for file in checkpoint.rglob("*") if file.is_file()),
    )


def _settings(arguments: argparse.Namespace, name: str) -> dict[str, Any]:
    """What runs must share to stand in one table."""
    return {
        "training_rows": training_data(name, arguments.rows)[1] or "all",
        "epochs": arguments.epochs,
        "learning_rates": USUAL_RATES,
        "batch_size": BATCH_SIZE,
        "sequence_length": LENGTH,
        "cpus": len(os.sched_getaffinity(0)),  # as with taskset
        "jax": metadata.version("jax"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of transformers")
    parser.add_argument("--data", type=Path, required=True, help="holds glue/")
    parser.add_argument("--only", nargs="+", choices=TASKS, default=["sst2", "mrpc"])
    parser.add_argument("--methods", nargs="+", choices=USUAL_RATES, default=list(USUAL_RATES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rows", type=int, default=0, help="training rows at most; 0 for all")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    rows = json.loads(arguments.output.read_text()) if arguments.output.is_file() else {}
    for name in arguments.only:
        settings = _settings(arguments, name)
        earlier = rows.setdefault(name, {"settings": settings, "methods": {}})
        if earlier["settings"] != settings:
            sys.exit(
                f"error: {arguments.output} has runs of {name} with {earlier['settings']}, not "
                f"with {settings}; give another --output"
            )
        # The methods in turns, so that the noise of the machine meets all of them.
        for seed in arguments.seeds:
            for method in arguments.methods:
                with tempfile.TemporaryDirectory() as scratch:
                    found = run(arguments, name, method, seed, Path(scratch, "run"))
                print(f"{name} {method} seed {seed}: {found}", file=sys.stderr, flush=True)
                runs = rows[name]["methods"].setdefault(method, {})
                runs[str(seed)] = found._asdict()
                write_json(arguments.output, rows)
    for name in arguments.only:
        methods = rows[name]["methods"]
        print(f"\n| {name}: {find_task(name).best} | {' | '.join(_CELLS)} |")
        print("|---" * (1 + len(_CELLS)) + "|")
        for method, runs in methods.items():
            cells = [cell(list(runs.values())) for cell in _CELLS.values()]
            print(f"| {method} | {' | '.join(cells)} |")


def _largest(runs: Sequence[dict[str, Any]], name: str) -> str:
    return f"{max(run[name] for run in runs) / 2**20:,.1f} MiB"


# What the table shows of the runs of one method.
_CELLS: dict[str, Callable[[Sequence[dict[str, Any]]], str]] = {
    "best epoch": best_scores,
    "trained": lambda runs: f"{runs[0]['trained'] / runs[0]['parameters']:.2%}",
    "s/epoch": epoch_times,
    "s/later epoch": later_epoch_times,
    "peak memory": lambda runs: _largest(runs, "peak_bytes"),
    "saved": lambda runs: _largest(runs, "saved_bytes"),
}


if __name__ == "__main__":
    main()
