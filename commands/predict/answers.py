"""Writes the predictions of a fine-tuned model as JSON Lines."""

import itertools
import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from bert_jax.errors import UserError
from bert_jax.monitoring.tracker import ProgressBar
from bert_jax.parallel.process import keep_freed_memory
from bert_jax.tasks.task import Prediction
from commands.finetune.data import say_skipped
from commands.predict.command_line import Predict
from commands.predict.predictor import open_predictor


def answer(command: str, request: Predict) -> None:
    """Predicts for the texts or the input file of a request."""
    keep_freed_memory()
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    predictor = open_predictor(request.checkpoint, request.step, command, console.print)
    if request.input:
        found = predictor.task.read(request.input)
        examples = found.rows
        say_skipped(request.input, found.skipped, console.print)
        if not examples:
            raise UserError(f"{request.input} holds no example; give another --input")
    else:
        examples = predictor.task.typed(request.texts)
    shown = request.output is not None  # else the predictions themselves show the progress
    with ProgressBar(len(examples), 0, shown=shown, name="example") as progress:
        predictions = predictor.predict(
            examples, request.batch_size, progress, progress.say if shown else console.print
        )
        number = _write(predictions, request.output)
    if request.output:
        console.print(f"{number:,} predictions in {request.output}")


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
