"""Fine-tunes with run_finetune.py and with `transformers`, in turns: scores and time per epoch.

    python -m benchmarks.finetune --model DIR --data DIR --output benchmarks/results/finetune.json

The model is a folder of transformers; the data is the folder that holds glue/ and conll2003/, as
unpacked. Needs the extra `parity`. Both sides get the same rows and settings, and their predictions
are scored by the same code; the best epoch of each run counts, as in run_finetune.py. An epoch's
time is that of its training, without the evaluation. Ours compiles in the first one, so the table
has the mean of all epochs and that of those after the first, of both sides.
"""

import argparse
import itertools
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from bert_jax.monitoring.tracker import read_metrics
from bert_jax.tasks.registry import find_task
from bert_jax.tasks.tagging.reader import tags_at, unit_starts
from bert_jax.tasks.tagging.tags import spans_of_tags
from bert_jax.tasks.tagging.task import Tagging
from bert_jax.tasks.task import Task
from data_pipeline.files import write_json

ROOT = Path(__file__).parent.parent
BATCH_SIZE, WARMUP, LENGTH = 32, 0.1, 128
# Task: its folder, and how many of its training rows; 0 for all.
TASKS = {"sst2": ("glue/SST-2", 10_000), "mrpc": ("glue/MRPC", 0), "conll2003": ("conll2003", 0)}


def training_data(name: str, most: int) -> tuple[str, int]:
    """A task's folder and its number of training rows, `most` at most; 0 for all."""
    inner, rows = TASKS[name]
    return inner, min(rows or most, most or rows)


class Work(NamedTuple):
    """What both sides are to do.

    Attributes:
      name: of the task.
      model: folder of transformers.
      data: folder of the task's files.
      rows: training rows; 0 for all.
      epochs, learning_rate: of the training.
    """

    name: str
    model: Path
    data: Path
    rows: int
    epochs: int
    learning_rate: float


class Side(NamedTuple):
    """What one run of one side gave.

    Attributes:
      score: of its best epoch, by the task's first score.
      epoch_seconds: training time of each epoch.
      seconds: of the whole command.
      notes: what else it says of itself.
    """

    score: float
    epoch_seconds: list[float]
    seconds: float
    notes: dict[str, int]


def ours(work: Work, seed: int, folder: Path) -> Side:
    """Runs run_finetune.py."""
    settings = {
        "init-from": work.model,
        "data": work.data,
        "train-examples": work.rows,
        "seeds": seed,
        "epochs": work.epochs,
        "batch-size": BATCH_SIZE,
        "sequence-length": LENGTH,
        "optimizer.learning-rate": work.learning_rate,
        "optimizer.warmup-proportion": WARMUP,
        "optimizer.schedule": "polynomial",  # what transformers calls linear
        "work-dir": folder,
    }
    command = [sys.executable, "run_finetune.py", work.name]
    command += [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    seconds = _timed(command)
    return Side(score_of(work.name, folder), epoch_seconds_of(folder), seconds, {})


def score_of(name: str, folder: Path) -> float:
    """The task's first score of the best epoch of a work folder of run_finetune.py."""
    summary = json.loads((folder / "summary.json").read_text())
    return summary["scores"]["dev"][find_task(name).best]  # type: ignore[no-any-return]


def epoch_seconds_of(folder: Path) -> list[float]:
    """Training time of each epoch of a work folder of run_finetune.py, evaluations left out."""
    found = read_metrics(folder / "metrics.jsonl")
    evaluations = [row for row in found if row["split"] == "eval"]
    ends = {row["step"]: row["time"] for row in found if row["split"] == "train"}
    return [
        ends[after["step"]] - before["time"] for before, after in itertools.pairwise(evaluations)
    ]


def theirs(work: Work, seed: int, folder: Path) -> Side:
    """Runs `finetune_transformers` on the rows that our task reads."""
    task = find_task(work.name)
    splits = {
        split: task.read(str(work.data / getattr(task, split))).usable().rows
        for split in ("train", "dev")
    }
    splits["train"] = splits["train"][: work.rows or None]
    labels = task.labels_of(splits["train"])
    given = {
        "kind": "tag" if isinstance(task, Tagging) else "classify",
        "model": str(work.model),
        "classes": len(labels),
        "seed": seed,
        "epochs": work.epochs,
        "batch_size": BATCH_SIZE,
        "sequence_length": LENGTH,
        "learning_rate": work.learning_rate,
        "warmup_proportion": WARMUP,
    } | {split: [shown(row, labels) for row in rows] for split, rows in splits.items()}
    folder.mkdir(parents=True)
    file = folder / "work.json"
    file.write_text(json.dumps(given))
    seconds = _timed([sys.executable, "-m", "benchmarks.finetune_transformers", str(file)])
    found = json.loads(file.with_suffix(".found").read_text())
    scores = [scored(task, answers, splits["dev"], labels) for answers in found["predictions"]]
    notes = {name: found[name] for name in ("dev_rows_of_full_length", "threads")}
    return Side(max(scores), found["epoch_seconds"], seconds, notes)


def _timed(command: Sequence[str]) -> float:
    """Seconds of a command, which must not fail."""
    start = time.perf_counter()
    finished = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    if finished.returncode:
        sys.exit(f"error: {shlex.join(command)} ended with exit code {finished.returncode}")
    return time.perf_counter() - start


def shown(example: Any, labels: Sequence[str]) -> tuple[list[str], Any]:
    """An example as texts, or words, and the numbers of its classes."""
    if not hasattr(example, "words"):
        texts = [example.first] + ([example.second] if example.second else [])
        return texts, labels.index(example.label)
    words = [example.text[start:end] for start, end in example.words]
    return words, [labels.index(tag) for tag in tags_at(unit_starts(example), example.entities)]


def scored(
    task: Task[Any], answers: Sequence[Any], examples: Sequence[Any], labels: Sequence[str]
) -> float:
    """Our task's score of classes by number."""
    if not isinstance(task, Tagging):
        return task.score([{"label": labels[answer]} for answer in answers], examples)[task.best]
    predictions = []
    for tags, example in zip(answers, examples, strict=True):
        spans = spans_of_tags([labels[tag] for tag in tags])
        entities = [
            {"type": kind, "start": example.words[first][0], "end": example.words[end - 1][1]}
            for kind, first, end in spans
        ]
        predictions.append({"entities": entities})
    return task.score(predictions, examples)[task.best]


SIDES = {"bert_jax": ours, "transformers": theirs}


def compare(arguments: argparse.Namespace, name: str) -> dict[str, Any]:
    """All seeds of a task, the sides in turns."""
    inner, rows = training_data(name, arguments.rows)
    work = Work(
        name,
        arguments.model.resolve(),
        arguments.data.resolve() / inner,
        rows,
        arguments.epochs,
        arguments.learning_rate,
    )
    found: dict[str, list[Side]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as scratch:
        for turn, seed in enumerate(arguments.seeds):
            for side in list(SIDES)[:: -1 if turn % 2 else 1]:
                result = SIDES[side](work, seed, Path(scratch, f"{side}-{seed}"))
                found[side].append(result)
                print(f"{name} seed {seed} {side}: {result}", file=sys.stderr, flush=True)
    return {
        "score": find_task(name).best,
        "training_rows": rows or "all",
        "epochs": work.epochs,
        "learning_rate": work.learning_rate,
        "seeds": arguments.seeds,
        "sides": {side: [run._asdict() for run in runs] for side, runs in found.items()},
        "cpus": len(os.sched_getaffinity(0)),  # as with taskset
        "versions": {
            package: metadata.version(package) for package in ("jax", "torch", "transformers")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of transformers")
    parser.add_argument("--data", type=Path, required=True, help="holds glue/ and conll2003/")
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--rows", type=int, default=0, help="training rows at most; 0 for all")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    rows = json.loads(arguments.output.read_text()) if arguments.output.is_file() else {}
    for name in arguments.only:
        rows[name] = compare(arguments, name)
        write_json(arguments.output, rows)
    print(
        f"| task | score | {' | '.join(f'{what}, {side}' for what in _CELLS for side in SIDES)} |"
    )
    print("|---" * (2 + len(_CELLS) * len(SIDES)) + "|")
    for name, row in rows.items():
        cells = [cell(row["sides"][side]) for cell in _CELLS.values() for side in SIDES]
        print(f"| {name} | {row['score']} | {' | '.join(cells)} |")


def spread(values: Sequence[float], form: str) -> str:
    """Mean and deviation of the seeds."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):{form}} ± {deviation:{form}}"


def best_scores(runs: Sequence[dict[str, Any]]) -> str:
    """Mean and deviation of the runs' scores."""
    return spread([run["score"] for run in runs], ".4f")


def epoch_times(runs: Sequence[dict[str, Any]]) -> str:
    """Likewise of the seconds of a run's mean epoch, compilation included."""
    return spread([statistics.mean(run["epoch_seconds"]) for run in runs], ".0f")


def later_epoch_times(runs: Sequence[dict[str, Any]]) -> str:
    """Likewise of the epochs after the first, or of the only one."""
    later = [run["epoch_seconds"][1:] or run["epoch_seconds"] for run in runs]
    return spread([statistics.mean(seconds) for seconds in later], ".0f")


# What the table shows of the runs of one side.
_CELLS: dict[str, Callable[[Sequence[dict[str, Any]]], str]] = {
    "best": best_scores,
    "s/epoch": epoch_times,
    "s/later epoch": later_epoch_times,
}


if __name__ == "__main__":
    main()
