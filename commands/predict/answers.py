"""Predicts with a fine-tuned model and writes JSON Lines."""

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from bert_jax.errors import UserError
from bert_jax.models.config import method_of
from bert_jax.monitoring.tracker import ProgressBar
from bert_jax.objectives.finetuning import make_predict_step, predict
from bert_jax.parallel.process import keep_freed_memory
from bert_jax.parallel.sharding import make_mesh
from bert_jax.tasks.registry import saved_task
from bert_jax.tasks.task import Encoding, Outputs, Prediction, Task, objective_of
from commands.finetune.data import say_skipped
from commands.predict.command_line import Predict
from commands.saved_model import SavedModel, is_unfinished, open_model, settings_of
from data_pipeline.finetune.batches import ordered_batches
from data_pipeline.finetune.buckets import bucket_boundaries

CHUNK = 2048  # examples in memory at a time
Numbered = tuple[np.ndarray, dict[str, np.ndarray]]


def answer(command: str, request: Predict) -> None:
    """Predicts for the texts or the input file of a request."""
    keep_freed_memory()
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    folder = request.checkpoint
    source = open_model(folder, request.step)
    task = _task_of(source, folder, command)
    if is_unfinished(folder):
        console.print(f"{folder} has not been trained to the end; this is step {source.step}")
    settings = settings_of(folder, source.step, console.print)
    if request.input:
        found = task.read(request.input)
        examples = found.rows
        say_skipped(request.input, found.skipped, console.print)
        if not examples:
            raise UserError(f"{request.input} holds no example; give another --input")
    else:
        examples = task.typed(request.texts)
    shown = request.output is not None  # else the predictions themselves show the progress
    with ProgressBar(len(examples), 0, shown=shown, name="example") as progress:
        say = progress.say if shown else console.print
        predictions = _predictions(task, source, examples, request.batch_size, progress, say)
        number = _write((task.decide(chunk, settings) for chunk in predictions), request.output)
    if request.output:
        console.print(f"{number:,} predictions in {request.output}")


def _task_of(source: SavedModel, folder: Path, command: str) -> Task[Any]:
    """The task of a fine-tuned model, which must be one for this command of run_predict.py."""
    if not (folder / "checkpoints").is_dir() and {"classifier", "span"} & set(source.params):
        raise UserError(
            f"{folder} is a folder of transformers, which does not say what its task is; use the "
            "run that it was exported from, or transformers"
        )
    if "task" not in source.saved:
        raise UserError(
            f"{folder} was not fine-tuned, so it cannot be used with {command!r}; fine-tune it "
            f"with: python run_finetune.py TASK --init-from {folder} --data DIR"
        )
    task = saved_task(source.saved)
    if task.command != command:
        raise UserError(
            f"{folder} was fine-tuned for {task.name}; its command is: run_predict.py "
            f"{task.command}"
        )
    return task


def _predictions(
    task: Task[Any],
    source: SavedModel,
    examples: Sequence[Any],
    batch_size: int,
    progress: ProgressBar,
    say: Callable[[str], None],
) -> Iterator[list[Prediction]]:
    """The predictions for each `CHUNK` of examples, not yet decided; `progress` counts examples."""
    started = time.monotonic()

    def watched(first: int, share: float, batches: Iterator[Numbered]) -> Iterator[Numbered]:
        """The batches; the bar advances from `first` by `share` examples per feature."""
        taken = 0
        for numbers, batch in batches:
            yield numbers, batch
            taken += len(numbers)
            done = first + round(taken * share)
            progress.step(done)
            progress.metrics(f"{done / (time.monotonic() - started):,.0f} examples/s")

    mesh = make_mesh(devices=jax.local_devices()[:1])
    labels, length = tuple(source.saved["labels"]), source.saved["sequence_length"]
    encoding = Encoding(source.tokenizer, length, labels)
    cut, step = 0, None
    for first in range(0, len(examples), CHUNK):
        chunk = examples[first : first + CHUNK]
        features = task.features(chunk, encoding)
        cut += features.cut
        for note in features.notes:
            say(note)
        if step is None:
            method = method_of(source.saved)
            objective = objective_of(task, source.model, labels, features, method)
            step = make_predict_step(objective, mesh)
        batches = ordered_batches(
            features.rows, batch_size=batch_size, boundaries=bucket_boundaries(length)
        )
        batches = watched(first, len(chunk) / len(features.rows), batches)
        logits: list[np.ndarray] = predict(step, source.params, batches, mesh)[0]
        yield task.predict(Outputs(logits, features, chunk, labels))
    if cut:
        say(f"{cut:,} of {len(examples):,} are longer than {length} tokens and are cut")


def _write(predictions: Iterator[list[Prediction]], output: Path | None) -> int:
    """Writes JSON Lines to the standard output or, all at once, to a file; returns how many."""
    total = 0
    aside = output.with_name(output.name + ".tmp") if output else None
    with open(aside, "w", encoding="utf-8") if aside else nullcontext(sys.stdout) as file:
        for prediction in itertools.chain.from_iterable(predictions):
            print(json.dumps(prediction, ensure_ascii=False), file=file, flush=output is None)
            total += 1
    if aside and output:
        aside.rename(output)
    return total
