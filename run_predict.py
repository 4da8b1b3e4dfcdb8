"""Asks a trained model: `python run_predict.py COMMAND --checkpoint DIR ...`."""

import dataclasses
import difflib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from tyro.conf import Positional

from bert_jax.errors import UserError
from bert_jax.models.registry import open_model
from bert_jax.monitoring.tracker import ProgressBar
from bert_jax.objectives.pretraining import fill_mask
from bert_jax.parallel.machine import keep_freed_memory
from bert_jax.training.checkpoint import load_params
from commands.errors import user_errors
from commands.finetune.data import say_skipped
from commands.predict import check_output_file, open_predictor, write_predictions
from data_pipeline.command_line import parse
from data_pipeline.pretraining.fill_mask import fill_mask_inputs
from data_pipeline.tokenization.loading import load_tokenizer

USAGE = """run_predict.py COMMAND --checkpoint DIR ...
  fill-mask "Text with a [MASK] ."   the most probable pieces, of a pre-trained model
  classify TEXT ...                  classes or numbers; for pairs: TEXT SECOND
  tag TEXT ...                       entities
  answer QUESTION CONTEXT            the answer, a stretch of the context
  choose CONTEXT CHOICE CHOICE ...   the best choice; with a question: its text behind the context
  relate TEXT ...                    the relation of <e1>one</e1> and <e2>another</e2>
  summarize TEXT ...                 the sentences that matter most
  rank QUERY TEXT ...                how well each text answers
All but fill-mask ask a model of run_finetune.py, write JSON Lines, and take --input FILE instead of
texts, in the form of the task's own files. run_predict.py COMMAND --help lists the options"""
TASK_COMMANDS = ("classify", "tag", "answer", "choose", "relate", "summarize", "rank")


@dataclasses.dataclass(frozen=True)
class FillMask:
    """Prints the most probable pieces for each [MASK] of a text.

    Attributes:
      text: contains [MASK] where a word is missing.
      checkpoint: work folder of a pre-training run.
      step: which checkpoint; the latest by default.
      top: number of pieces.
    """

    text: Positional[str]
    checkpoint: Path
    step: int | None = None
    top: int = 5


@dataclasses.dataclass(frozen=True)
class Predict:
    """Writes what a fine-tuned model says of texts, a JSON object a line.

    Attributes:
      texts: what to ask it.
      checkpoint: work folder of a fine-tuning.
      input: file to read instead, in the form of the task's own.
      output: file to write; the standard output by default.
      step: which checkpoint; the best by default.
      batch_size: examples at a time.
    """

    texts: Positional[tuple[str, ...]]
    checkpoint: Path
    input: str = ""
    output: Path | None = None
    step: int | None = None
    batch_size: int = 32


def main(arguments: Sequence[str]) -> None:
    """Reads the command line and prints the answer."""
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help"):
        print(f"usage: {USAGE}")
        return
    commands: dict[str, Callable[[Sequence[str]], None]] = {
        "fill-mask": fill_masks,
        **{name: partial(predict, name) for name in TASK_COMMANDS},
    }
    if command not in commands:
        nearest = difflib.get_close_matches(command, commands, n=1, cutoff=0)[0]
        raise UserError(
            f"unknown command {command!r}; did you mean {nearest!r}? There are: "
            f"{', '.join(commands)}"
        )
    keep_freed_memory()
    commands[command](arguments[1:])


def predict(command: str, arguments: Sequence[str]) -> None:
    """All commands but fill-mask."""
    request: Any = parse(Predict, arguments, program=f"run_predict.py {command}")
    if request.batch_size < 1:
        raise UserError(f"--batch-size is {request.batch_size}; it must be at least 1")
    check_encoding(request.texts)
    if request.output:
        check_output_file(request.output, request.input)
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    predictor = open_predictor(request.checkpoint, request.step, command, console.print)
    if bool(request.texts) == bool(request.input):
        raise UserError(f"type {predictor.task.usage}, or give --input FILE, and not both")
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
        number = write_predictions(predictions, request.output)
    if request.output:
        console.print(f"{number:,} predictions in {request.output}")


def check_encoding(texts: Sequence[str]) -> None:
    """Raises UserError for a typed text that is not UTF-8: Python makes surrogates of its bytes."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"the text {text[:40]!a} is not UTF-8; type it so, or give --input FILE"
            ) from None


def fill_masks(arguments: Sequence[str]) -> None:
    """The command fill-mask."""
    request = parse(FillMask, arguments, program="run_predict.py fill-mask")
    check_encoding([request.text])
    params, config, step = load_params(request.checkpoint, request.step)
    model = open_model(config["model"])
    if not 1 <= request.top <= model.vocab_size:
        raise UserError(f"--top is {request.top}; it must be within 1 to {model.vocab_size}")
    tokenizer = load_tokenizer(request.checkpoint)
    input_ids, positions = fill_mask_inputs(tokenizer, request.text, model.max_position_embeddings)
    ids, probabilities = fill_mask(model, params, input_ids, positions, request.top)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"{request.checkpoint}, step {step}: {request.text}")
    for number in range(len(positions)):
        if len(positions) > 1:
            console.print(f"[MASK] number {number + 1}")
        for token, probability in zip(ids[number], probabilities[number], strict=True):
            console.print(f"  {probability:.4f}  {tokenizer.id_to_piece(int(token))}")


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
