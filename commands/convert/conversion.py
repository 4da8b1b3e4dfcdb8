"""Converts a checkpoint of one format into another."""

import dataclasses
from typing import Any

import jax
from rich.console import Console

from bert_jax.errors import UserError
from bert_jax.files import read_json
from bert_jax.interchange.hugging_face import Model, load_hugging_face
from bert_jax.interchange.names import PART_NAMES, adam_from_tf1, from_tensors, names_of
from bert_jax.interchange.resize import extend_positions, resize_vocabulary
from bert_jax.models.adapters import merge
from bert_jax.models.bert_names import config_from_tf1
from bert_jax.models.config import MethodConfig, method_of
from bert_jax.models.registry import architecture_of, config_to_saved
from bert_jax.training.checkpoint import save_params
from bert_jax.training.optimizer import AdamState
from commands.convert.command_line import FromHuggingFace, FromTF1, Merge, Request
from commands.export import listed
from commands.exporters import EXPORTERS
from commands.folders import whole_folder
from commands.saved_model import checkpoint_prefix, load_run, read_tf1, settings_of
from data_pipeline.files import read_text, write_json
from data_pipeline.tokenization.hugging_face import load_foreign_tokenizer
from data_pipeline.tokenization.loading import load_tokenizer


def convert(request: Request) -> None:
    """Converts, and prints what was found and the next commands."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if isinstance(request, FromTF1):
        _from_tf1(request, console)
    elif isinstance(request, FromHuggingFace):
        console.print(f"reading {request.input}")
        _finish(request, load_hugging_face(request.input), [], console)
    elif isinstance(request, Merge):
        _merge(request, console)
    else:
        EXPORTERS["hf"].write(
            request.checkpoint,
            request.output,
            console,
            step=request.step,
            class_name=request.architecture,
        )


def _from_tf1(request: FromTF1, console: Console) -> None:
    config = config_from_tf1(read_json(request.input / "bert_config.json"), request.gelu)
    prefix = checkpoint_prefix(request.input, request.name)
    console.print(f"reading {prefix}")
    tensors = read_tf1(prefix, request.optimizer_state)
    converted = from_tensors(tensors, "tf1", config)
    adam, step = None, 0
    if request.optimizer_state:
        mu, nu, step = adam_from_tf1(tensors, config)
        adam = AdamState(mu, nu)
    class_name = names_of(config).largest_class(set(converted.params))
    notes = [
        f"GELU: the {request.gelu} form; bert_config.json does not say which (--gelu)",
        f"optimizer: Adam's moments, step {step:,}" if adam else "optimizer: left out",
    ]
    _finish(request, Model(config, converted, class_name, ()), notes, console, step, adam)


def _merge(request: Merge, console: Console) -> None:
    params, saved, step = load_run(request.checkpoint, request.step, request.base)
    if "base" not in saved:
        raise UserError(f"{request.checkpoint} holds all weights already; use it directly")
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
    console.print(
        f"{request.output}: {_count(params):,} parameters, {method.name} of {request.checkpoint}, "
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
    """Checks the vocabulary, resizes the model, writes our folder and prints the summary."""
    config, params = model.config, model.converted.params
    architecture = architecture_of(config)
    lowercase = {"auto": None, "lower": True, "keep": False}[request.case]
    new_tokens = read_text(request.new_tokens).splitlines() if request.new_tokens else []
    tokenizer, found = load_foreign_tokenizer(request.input, lowercase, new_tokens)
    size = tokenizer.vocab_size
    before = size - len(new_tokens)
    if before != config.vocab_size and not request.resize_vocabulary:
        raise UserError(
            f"the vocabulary in {request.input} has {before:,} pieces, the embedding "
            f"{config.vocab_size:,} rows; give the right vocabulary, or add --resize-vocabulary"
        )
    kept = min(before, config.vocab_size)  # the rows that have a piece
    if size != config.vocab_size or size != kept:
        notes.append(
            f"vocabulary: from {config.vocab_size:,} to {size:,} rows"
            + (
                f"; the new ones, from row {kept:,} on, are the mean of the others"
                if size > kept
                else ""
            )
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
        "model": config_to_saved(config),
        "architecture": model.class_name,
        "labels": list(model.labels),
        "problem_type": model.problem_type,
    }
    with whole_folder(request.output) as folder:
        save_params(folder, params, saved, step=step, adam=adam)
        write_json(folder / "config.json", saved)
        tokenizer.save(folder)
    console.print(f"{request.output}: {model.class_name}, {_count(params):,} parameters")
    listed(console, "found", [PART_NAMES[part] for part in params])
    listed(console, "not found", [f"{part}; it starts fresh" for part in model.converted.missing])
    listed(console, "not used", list(model.converted.unused))
    for note in notes:
        console.print(note)
    lowercased = tokenizer.description["lowercase"]
    case = "lower-cased" if lowercased else "cased"
    console.print(f"tokenizer: {size:,} pieces, {case}, {found}\nType next:")
    if "masked_lm" in params:
        console.print(
            f"  python run_predict.py fill-mask --checkpoint {request.output} "
            '"A text with a [MASK] ."'
        )
    console.print(
        f"  python -m data_pipeline.prepare --vocab {request.output}/vocab.txt "
        f"{'' if lowercased else '--no-lowercase '}--input FILES --output CORPUS\n"
        f"  python run_pretrain.py adapt --init-from {request.output} --corpus CORPUS\n"
        f"  python run_convert.py to-hf --checkpoint {request.output} --output DIR"
    )


def _count(params: Any) -> int:
    return sum(array.size for array in jax.tree.leaves(params))
