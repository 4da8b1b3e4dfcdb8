"""Converts checkpoints: `python run_convert.py tf1|from-hf|to-hf|merge OPTIONS`.

tf1 and from-hf make a folder of ours from the original's TF1 checkpoints and from Hugging Face's
models; to-hf makes a folder that `transformers` loads from a run of ours; merge makes a checkpoint
of all weights from a run that saved only the few that it trained.
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
from rich.console import Console

from bert_jax.errors import UserError
from bert_jax.interchange.hugging_face import Model, load_hugging_face, read_json
from bert_jax.interchange.names import PART_NAMES, adam_from_tf1, from_tensors, names_of
from bert_jax.interchange.resize import extend_positions, resize_vocabulary
from bert_jax.models.adapters import MethodConfig, merge, method_of
from bert_jax.models.bert_names import config_from_tf1
from bert_jax.models.registry import architecture_of, saved_model
from bert_jax.training.checkpoint import save_params
from bert_jax.training.optimizer import AdamState
from commands.errors import user_errors
from commands.export import check_output, listed, to_hugging_face, whole_folder
from commands.predict import settings_of
from commands.source import load_run
from commands.tf1 import checkpoint_prefix, read_tf1
from data_pipeline.command_line import parse
from data_pipeline.files import write_json
from data_pipeline.tokenization.hugging_face import load_foreign_tokenizer
from data_pipeline.tokenization.loading import load_tokenizer

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


def main(arguments: Sequence[str]) -> None:
    """Reads the command line, converts, and prints what was found and what to type next."""
    commands: dict[str, tuple[type, Callable[[Any, Console], None]]] = {
        "tf1": (FromTF1, from_tf1),
        "from-hf": (FromHuggingFace, from_hugging_face),
        "to-hf": (ToHuggingFace, to_hf),
        "merge": (Merge, merge_run),
    }
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help"):
        print(f"usage: {USAGE}")
        return
    if command not in commands:
        raise UserError(f"unknown command {command!r}; there are: {', '.join(commands)}")
    options, convert = commands[command]
    request: Any = parse(options, arguments[1:], program=f"run_convert.py {command}")
    check_output(request.output)
    convert(request, Console(soft_wrap=True, highlight=False, markup=False))


def from_tf1(request: FromTF1, console: Console) -> None:
    """TF1 -> ours."""
    if request.optimizer_state and (
        request.new_tokens or request.resize_vocabulary or request.positions
    ):
        raise UserError(
            "--optimizer-state continues the very run, so the model cannot be resized with it; "
            "leave out one of them"
        )
    _check_input(request.input)
    values = read_json(request.input / "bert_config.json")
    config = config_from_tf1(values, request.gelu)
    prefix = checkpoint_prefix(request.input, request.name)
    console.print(f"reading {prefix}")
    tensors = read_tf1(prefix, request.optimizer_state)
    adam, step = None, 0
    converted = from_tensors(tensors, "tf1", config)
    if request.optimizer_state:
        mu, nu, step = adam_from_tf1(tensors, config)
        adam = AdamState(mu, nu)
    largest = names_of(config).largest_class(set(converted.params))
    model = Model(config, converted, largest, labels=())
    notes = [
        f"GELU: the {request.gelu} form, which bert_config.json does not tell (--gelu)",
        f"optimizer: Adam's moments, step {step:,}" if adam else "optimizer: left behind",
    ]
    _finish(request, model, notes, console, step, adam)


def from_hugging_face(request: FromHuggingFace, console: Console) -> None:
    """Hugging Face -> ours."""
    _check_input(request.input)
    console.print(f"reading {request.input}")
    _finish(request, load_hugging_face(request.input), [], console)


def to_hf(request: ToHuggingFace, console: Console) -> None:
    """Ours -> Hugging Face."""
    to_hugging_face(
        request.checkpoint,
        request.output,
        console,
        step=request.step,
        architecture=request.architecture,
    )


def merge_run(request: Merge, console: Console) -> None:
    """A part and its base -> all weights."""
    params, saved, step = load_run(request.checkpoint, request.step, request.base)
    if "base" not in saved:
        raise UserError(f"{request.checkpoint} holds all weights already; use it as it is")
    method = method_of(saved)
    params = merge(method, params)
    settings = settings_of(request.checkpoint, step, console.print)
    base = saved.pop("base")["folder"]
    saved |= {"method": dataclasses.asdict(MethodConfig())}
    with whole_folder(request.output) as folder:
        save_params(folder, params, saved, step=step)
        write_json(folder / "config.json", saved)
        write_json(folder / "summary.json", {"step": step, "settings": settings})
        load_tokenizer(request.checkpoint).save(folder)
    parameters = sum(array.size for array in jax.tree.leaves(params))
    console.print(
        f"{request.output}: {parameters:,} parameters, {method.name} of {request.checkpoint}, "
        f"step {step}, with {request.base or base}\n"
        "Type next:\n"
        f"  python run_convert.py to-hf --checkpoint {request.output} --output DIR"
    )


def _finish(
    request: FromHuggingFace,
    model: Model,
    notes: list[str],
    console: Console,
    step: int = 0,
    adam: AdamState | None = None,
) -> None:
    """Resizes, checks the vocabulary, writes our folder and prints the summary."""
    config, params = model.config, model.converted.params
    architecture = architecture_of(config)
    lowercase = {"auto": None, "lower": True, "keep": False}[request.case]
    new_tokens = _new_tokens(request.new_tokens)
    tokenizer, found = load_foreign_tokenizer(request.input, lowercase, new_tokens)
    size = tokenizer.vocab_size
    before = size - len(new_tokens)
    if before != config.vocab_size and not request.resize_vocabulary:
        raise UserError(
            f"the vocabulary in {request.input} has {before:,} pieces, the embedding "
            f"{config.vocab_size:,} rows; give the right vocabulary, or add --resize-vocabulary"
        )
    kept = min(before, config.vocab_size)  # the other rows stand for no piece
    if size != config.vocab_size or size != kept:
        notes.append(
            f"vocabulary: from {config.vocab_size:,} to {size:,} rows"
            + (f", those from {kept:,} on the mean of the others" if size > kept else "")
        )
        params = resize_vocabulary(params, architecture, kept)
        params = resize_vocabulary(params, architecture, size)
        config = dataclasses.replace(config, vocab_size=size)
    if request.positions is not None:
        if request.positions < config.max_position_embeddings:
            raise UserError(
                f"--positions is {request.positions}; the model has "
                f"{config.max_position_embeddings} and can only be extended"
            )
        notes.append(
            f"positions: from {config.max_position_embeddings} to {request.positions}, repeated"
        )
        params = extend_positions(params, architecture, request.positions)
        config = dataclasses.replace(config, max_position_embeddings=request.positions)
    saved = {
        "recipe": f"converted from {request.input}",
        "model": saved_model(config),
        "architecture": model.architecture,
        "labels": list(model.labels),
        "problem_type": model.problem_type,
    }
    with whole_folder(request.output) as folder:
        save_params(folder, params, saved, step=step, adam=adam)
        write_json(folder / "config.json", saved)
        tokenizer.save(folder)
    parameters = sum(array.size for array in jax.tree.leaves(params))
    console.print(f"{request.output}: {model.architecture}, {parameters:,} parameters")
    listed(console, "found", [PART_NAMES[part] for part in params])
    listed(console, "not found", [f"{part}; it starts fresh" for part in model.converted.missing])
    listed(console, "not used", list(model.converted.unused))
    for note in notes:
        console.print(note)
    cased = not tokenizer.description["lowercase"]
    case = "cased" if cased else "lower-cased"
    console.print(f"tokenizer: {size:,} pieces, {case}, {found}\nType next:")
    if "masked_lm" in params:
        console.print(
            f"  python run_predict.py fill-mask --checkpoint {request.output} "
            '"A text with a [MASK] ."'
        )
    console.print(
        f"  python -m data_pipeline.prepare --vocab {request.output}/vocab.txt "
        f"{'--no-lowercase ' if cased else ''}--input FILES --output CORPUS\n"
        f"  python run_pretrain.py adapt --init-from {request.output} --corpus CORPUS\n"
        f"  python run_convert.py to-hf --checkpoint {request.output} --output DIR"
    )


def _check_input(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"--input {folder} is not a folder; give the folder of the checkpoint")


def _new_tokens(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--new-tokens {path} cannot be read ({error})") from None


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
