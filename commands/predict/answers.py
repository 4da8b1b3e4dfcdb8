"""What a fine-tuned model answers, as JSON Lines."""

import json
from collections.abc import Iterator
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
    """Predicts what was typed or what stands in a file."""
    keep_freed_memory()
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    predictor = open_predictor(request.checkpoint, request.step, command, console.print)
    if request.input:
        found = predictor.task.read(request.input)
        examples = found.rows
        say_skipped(request.input, found.skipped, console.print)
        if not examples:
            raise UserError(f"{request.input} holds no example")
    else:
        examples = predictor.task.typed(request.texts)
    shown = request.output is not None  # the standard output shows by itself how far it is
    with ProgressBar(len(examples), 0, shown=shown, name="example") as progress:
        predictions = predictor.predict(
            examples, request.batch_size, progress, progress.say if shown else console.print
        )
        number = _write(predictions, request.output)
    if request.output:
        console.print(f"{number:,} predictions in {request.output}")


def _write(predictions: Iterator[list[Prediction]], output: Path | None) -> int:
    """Writes JSON Lines to a file, aside first and then renamed, or to the standard output.

    Returns:
      The number of predictions.
    """
    total = 0
    lines = (
        json.dumps(prediction, ensure_ascii=False) for chunk in predictions for prediction in chunk
    )
    if output is None:
        for line in lines:
            print(line, flush=True)
            total += 1
        return total
    aside = output.with_name(output.name + ".tmp")
    with open(aside, "w", encoding="utf-8") as file:
        for line in lines:
            file.write(line + "\n")
            total += 1
    aside.rename(output)
    return total
