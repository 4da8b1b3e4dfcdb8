"""The command line of run_predict.py."""

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
All but fill-mask use a model from run_finetune.py and write JSON Lines; instead of texts they take
--input FILE in the format of the task's files. run_predict.py COMMAND --help lists the options"""


def usage() -> str:
    """The arguments of each command, and what it finds."""
    lines = {
        f'{FILL_MASK} "Text with a [MASK] ."': "the most probable pieces, of a pre-trained model"
    }
    for name, task in commands().items():
        lines[f"{name} {task.usage}"] = task.answers
    return _USAGE.format("\n".join(f"  {typed:<33}  {found}" for typed, found in lines.items()))


@dataclasses.dataclass(frozen=True)
class FillMask:
    """Prints the most probable pieces for each [MASK] in a text.

    Attributes:
      text: text with [MASK] in the place of each missing word.
      checkpoint: work folder of a pre-training run.
      step: step of the checkpoint; by default the latest.
      top: number of pieces to print.
    """

    text: Positional[str]
    checkpoint: Path
    step: int | None = None
    top: int = field(default=5, metadata={"interval": "[1, inf)"})


@dataclasses.dataclass(frozen=True)
class Predict:
    """Writes a fine-tuned model's predictions, one JSON object per line.

    Attributes:
      texts: the texts to predict for.
      checkpoint: work folder of a fine-tuning.
      input: file to read instead, in the format of the task's own files.
      output: file to write; by default the standard output.
      step: step of the checkpoint; by default the best.
      batch_size: examples per batch.
    """

    texts: Positional[tuple[str, ...]]
    checkpoint: Path
    input: str = ""
    output: Path | None = None
    step: int | None = None
    batch_size: int = field(default=32, metadata={"interval": "[1, inf)"})


def read_predict(command: str, arguments: Sequence[str]) -> Predict:
    """Reads and checks the options of all commands but fill-mask."""
    request = parse(Predict, arguments, program=f"run_predict.py {command}")
    check_bounds(request)
    _check_encoding(request.texts)
    source, output = request.input, request.output
    if output and source and output.resolve() == Path(split_source(source)[0]).resolve():
        raise UserError(f"--output {output} is also --input and would replace it; give another")
    if output and output.is_dir():
        raise UserError(f"--output {output} is a folder; give the name of a file")
    if output and not os.access(output.parent, os.W_OK):
        raise UserError(
            f"--output {output} cannot be written: its folder does not exist or is not writable; "
            "make it, or give another"
        )
    if bool(request.texts) == bool(source):
        raise UserError(f"give either {commands()[command].usage} or --input FILE")
    return request


def read_fill_mask(arguments: Sequence[str]) -> FillMask:
    """Reads and checks the options of fill-mask."""
    request = parse(FillMask, arguments, program="run_predict.py fill-mask")
    check_bounds(request)
    _check_encoding([request.text])
    return request


def _check_encoding(texts: Sequence[str]) -> None:
    """Refuses arguments that are not UTF-8: Python turns their bytes into surrogates."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"the text {text[:40]!a} is not UTF-8; retype it in UTF-8, or give --input FILE"
            ) from None
