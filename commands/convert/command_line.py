"""What run_convert.py is asked on the command line."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from bert_jax.errors import UserError
from commands.folders import check_output
from data_pipeline.command_line import parse

USAGE = """run_convert.py COMMAND OPTIONS
  tf1      --input DIR --output DIR   a checkpoint of google-research/bert into ours
  from-hf  --input DIR --output DIR   a Hugging Face model into ours
  to-hf    --checkpoint DIR --output DIR   ours into a folder that transformers loads
  merge    --checkpoint DIR --output DIR   what LoRA or BitFit saved into all weights
run_convert.py COMMAND --help lists the options"""

GeluForm = Literal["erf", "tanh"]
Case = Literal["auto", "lower", "keep"]


@dataclasses.dataclass(frozen=True)
class FromHuggingFace:
    """Converts a folder of transformers into a checkpoint of ours.

    Attributes:
      input: folder with config.json, model.safetensors or pytorch_model.bin, and vocab.txt or
        tokenizer.json.
      output: folder to make.
      case: whether the tokenizer lower-cases; auto goes by its settings, else by its pieces.
      new_tokens: file with pieces to add to the vocabulary, one a line.
      resize_vocabulary: fit an embedding to its vocabulary where their lengths differ.
      positions: lengthen the position embeddings to this many.
    """

    input: Path
    output: Path
    case: Case = "auto"
    new_tokens: Path | None = None
    resize_vocabulary: bool = False
    positions: int | None = None


@dataclasses.dataclass(frozen=True)
class FromTF1(FromHuggingFace):
    """Converts a TF1 checkpoint of google-research/bert into a checkpoint of ours.

    Attributes:
      input: folder with bert_model.ckpt.index and .data-..., bert_config.json and vocab.txt.
      output: folder to make.
      gelu: form of the "gelu" in bert_config.json: erf until February 2019 (the models of 2018),
        tanh since (the whole-word-masking and small models, and training with the latest code).
      optimizer_state: take Adam's moments and the step too, to continue that very run.
      name: the checkpoint's name, up to ".index"; the only one in the folder by default.
      case: whether the tokenizer lower-cases; auto goes by its pieces.
      new_tokens: file with pieces to add to the vocabulary, one a line.
      resize_vocabulary: fit an embedding to its vocabulary where their lengths differ.
      positions: lengthen the position embeddings to this many.
    """

    gelu: GeluForm = "erf"
    optimizer_state: bool = False
    name: str | None = None


@dataclasses.dataclass(frozen=True)
class ToHuggingFace:
    """Converts a checkpoint of ours into a folder of transformers.

    Attributes:
      checkpoint: work folder of a run, or what tf1 and from-hf wrote.
      output: folder to make.
      step: which checkpoint; that of the run's result by default (of a fine-tuning the best).
      architecture: class of transformers to write for, such as BertForMaskedLM; by default the one
        that it came from or the largest that it has the parts of.
    """

    checkpoint: Path
    output: Path
    step: int | None = None
    architecture: str | None = None


@dataclasses.dataclass(frozen=True)
class Merge:
    """Makes a checkpoint of all weights from a run that saved only those that it trained.

    Attributes:
      checkpoint: work folder of the run.
      output: folder to make.
      step: which checkpoint; the best by default.
      base: where the model is that the run started from, if it is no longer where it was.
    """

    checkpoint: Path
    output: Path
    step: int | None = None
    base: Path | None = None


Request = FromTF1 | FromHuggingFace | ToHuggingFace | Merge
COMMANDS: dict[str, type[Request]] = {
    "tf1": FromTF1,
    "from-hf": FromHuggingFace,
    "to-hf": ToHuggingFace,
    "merge": Merge,
}


def from_command_line(command: str, arguments: Sequence[str]) -> Request:
    """Reads the options of a command."""
    if command not in COMMANDS:
        raise UserError(f"unknown command {command!r}; there are: {', '.join(COMMANDS)}")
    request = parse(COMMANDS[command], arguments, program=f"run_convert.py {command}")
    check_output(request.output)
    if isinstance(request, FromHuggingFace) and not request.input.is_dir():
        raise UserError(
            f"--input {request.input} is not a folder; give the folder of the checkpoint"
        )
    if (
        isinstance(request, FromTF1)
        and request.optimizer_state
        and (request.new_tokens or request.resize_vocabulary or request.positions)
    ):
        raise UserError(
            "--optimizer-state continues the very run, so the model cannot be resized with it; "
            "leave out one of them"
        )
    return request
