"""What run_predict.py is asked on the command line."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path

from tyro.conf import Positional

from bert_jax.bounds import check_bounds
from bert_jax.errors import UserError
from bert_jax.tasks.registry import commands
from data_pipeline.command_line import parse
from data_pipeline.finetune.tables import split_source

FILL_MASK = "fill-mask"
_USAGE = """run_predict.py COMMAND --checkpoint DIR ...
{}
All but fill-mask ask a model of run_finetune.py, write JSON Lines, and take --input FILE instead of
texts, in the form of the task's own files. run_predict.py COMMAND --help lists the options"""


def usage() -> str:
    """What is typed for each command, and what it finds."""
    lines = {
        f'{FILL_MASK} "Text with a [MASK] ."': "the most probable pieces, of a pre-trained model"
    }
    for name, task in commands().items():
        lines[f"{name} {task.usage}"] = task.answers
    return _USAGE.format("\n".join(f"  {typed:<33}  {found}" for typed, found in lines.items()))


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
    top: int = field(default=5, metadata={"interval": "[1, inf)"})


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
    batch_size: int = field(default=32, metadata={"interval": "[1, inf)"})


def read_predict(command: str, arguments: Sequence[str]) -> Predict:
    """Reads the options of all commands but fill-mask."""
    request = parse(Predict, arguments, program=f"run_predict.py {command}")
    check_bounds(request)
    _check_encoding(request.texts)
    if request.output:
        _check_output_file(request.output, request.input)
    if bool(request.texts) == bool(request.input):
        raise UserError(f"type {commands()[command].usage}, or give --input FILE, and not both")
    return request


def read_fill_mask(arguments: Sequence[str]) -> FillMask:
    """Reads the options of fill-mask."""
    request = parse(FillMask, arguments, program="run_predict.py fill-mask")
    check_bounds(request)
    _check_encoding([request.text])
    return request


def _check_encoding(texts: Sequence[str]) -> None:
    """Refuses a typed text that is not UTF-8: Python makes surrogates of its bytes."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"the text {text[:40]!a} is not UTF-8; type it so, or give --input FILE"
            ) from None


def _check_output_file(output: Path, source: str) -> None:
    """Refuses a file that cannot be written, or that is read, too."""
    if source and output.resolve() == Path(split_source(source)[0]).resolve():
        raise UserError(f"--output {output} is also --input; give another, or that would be lost")
    if output.is_dir():
        raise UserError(f"--output {output} is a folder; give the name of a file")
    if not os.access(output.parent, os.W_OK):
        raise UserError(
            f"--output {output} cannot be written: its folder is not there or not writable; make "
            "it, or give another"
        )
