"""The command line of run_convert.py."""

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from bert_jax.errors import UserError
from commands.folders import check_output
from data_pipeline.command_line import parse

USAGE = """run_convert.py COMMAND OPTIONS
  tf1      --input DIR --output DIR   a checkpoint of google-research/bert into ours
  from-hf  --input DIR --output DIR   a Hugging Face model into ours
  to-hf    --checkpoint DIR --output DIR   ours into a Hugging Face model
  merge    --checkpoint DIR --output DIR   what LoRA or BitFit trained, and its base, into one
run_convert.py COMMAND --help lists the options"""


@dataclasses.dataclass(frozen=True)
class FromHuggingFace:
    """Converts a Hugging Face folder into a checkpoint of ours.

    Attributes:
      input: folder with config.json, model.safetensors or pytorch_model.bin, and vocab.txt or
        tokenizer.json.
      output: folder to make.
      case: whether the tokenizer lower-cases text; auto goes by its settings if there are any, else
        by its vocabulary.
      new_tokens: file of pieces to add to the vocabulary, one per line.
      resize_vocabulary: resize the embedding if its length differs from the vocabulary's.
      positions: extend the position embeddings to this many.
    """

    input: Path
    output: Path
    case: Literal["auto", "lower", "keep"] = "auto"
    new_tokens: Path | None = None
    resize_vocabulary: bool = False
    positions: int | None = None


@dataclasses.dataclass(frozen=True)
class FromTF1(FromHuggingFace):
    """Converts a TF1 checkpoint of google-research/bert into a checkpoint of ours.

    Attributes:
      input: folder with bert_model.ckpt.index and .data-..., bert_config.json and vocab.txt.
      gelu: which function "gelu" in bert_config.json means: erf until February 2019 (the models of
        2018), tanh since then (the whole-word-masking and the small models, and whatever the latest
        code trained).
      optimizer_state: also take Adam's moments and the step, to continue that run.
      name: name of the checkpoint, without ".index"; by default the only one in the folder.
    """

    gelu: Literal["erf", "tanh"] = "erf"
    optimizer_state: bool = False
    name: str | None = None


@dataclasses.dataclass(frozen=True)
class ToHuggingFace:
    """Converts a checkpoint of ours into a Hugging Face folder.

    Attributes:
      checkpoint: work folder of a run, or output of tf1 or from-hf.
      output: folder to make.
      step: step of the checkpoint; by default the run's result (of a fine-tuning, the best).
      architecture: class of transformers to write for, such as BertForMaskedLM; by default the one
        that it came from, or the largest one that it has all parts of.
    """

    checkpoint: Path
    output: Path
    step: int | None = None
    architecture: str | None = None


@dataclasses.dataclass(frozen=True)
class Merge:
    """Merges what LoRA or BitFit trained into the base model: a checkpoint with all weights.

    Attributes:
      checkpoint: work folder of the run.
      output: folder to make.
      step: step of the checkpoint; by default the best.
      base: where the model that the run started from is now, if it has moved.
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
    """Reads and checks the options of a command."""
    if command not in COMMANDS:
        nearest = difflib.get_close_matches(command, COMMANDS, n=1, cutoff=0)[0]
        raise UserError(
            f"unknown command {command!r}; did you mean {nearest!r}? There are: "
            f"{', '.join(COMMANDS)}"
        )
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
            "--optimizer-state is to continue the same run, which needs the same sizes; leave it "
            "out, or leave out --new-tokens, --resize-vocabulary and --positions"
        )
    return request
