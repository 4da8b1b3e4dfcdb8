"""Writing folders of models: whole or not at all, ours or those of transformers."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from bert_jax.errors import UserError
from bert_jax.interchange.hugging_face import save_hugging_face
from bert_jax.interchange.names import PART_NAMES, names_of
from bert_jax.models.adapters import merge, method_of
from bert_jax.models.registry import open_model
from commands.source import load_run
from data_pipeline.tokenization.hugging_face import save_for_transformers
from data_pipeline.tokenization.loading import load_tokenizer


def check_output(output: Path, option: str = "--output") -> None:
    """Raises UserError for a folder that cannot be made: one that is not empty, or the current."""
    if output.exists() and not (output.is_dir() and next(output.iterdir(), None) is None):
        raise UserError(f"{option} {output} exists and is not empty; give another, or delete it")
    if output.resolve() == Path.cwd():  # it would be replaced under the shell's feet
        raise UserError(f"{option} {output} is the current folder; give a new one's name")
    parent = next(folder for folder in output.resolve().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UserError(f"{option} {output} cannot be made, as {parent} cannot be written to")


def to_hugging_face(
    checkpoint: Path,
    output: Path,
    console: Console,
    *,
    step: int | None = None,
    architecture: str | None = None,
) -> None:
    """Writes a checkpoint of ours as a folder that transformers loads.

    Args:
      checkpoint: work folder of a run, or what run_convert.py wrote.
      output: see `check_output`.
      console: for what is written, and what to type next.
      step: which checkpoint; the run's result by default.
      architecture: class of transformers; by default the one that the checkpoint names, or the
        largest that it has the parts of.

    Raises:
      UserError: transformers has no such model.
    """
    params, saved, found_step = load_run(checkpoint, step)
    params = merge(method_of(saved), params)
    config = open_model(saved["model"])
    names = names_of(config)
    if architecture not in (None, *names.classes):
        raise UserError(
            f"--architecture {architecture} is unknown; there are: {', '.join(names.classes)}"
        )
    tokenizer = load_tokenizer(checkpoint)
    if tokenizer.vocab_size != config.vocab_size:
        raise UserError(
            f"the vocabulary in {checkpoint} has {tokenizer.vocab_size} pieces, the embedding "
            f"{config.vocab_size} rows"
        )
    architecture = architecture or saved.get("architecture", names.largest_class(set(params)))
    if not architecture:
        raise UserError(
            f"transformers has no model with the output layer of {saved['task']}; --architecture "
            f"{names.bare} writes the encoder"
        )
    with whole_folder(output) as folder:
        pad = tokenizer.special_ids["pad"]
        save_hugging_face(
            folder,
            config,
            params,
            architecture,
            pad,
            saved.get("labels", ()),
            saved.get("problem_type", ""),
        )
        tokenizer_files = save_for_transformers(tokenizer, folder, config.max_position_embeddings)
    parts = names.classes[architecture]
    console.print(f"{output}: {architecture} of {checkpoint}, step {found_step}")
    listed(console, "written", [PART_NAMES[part] for part in parts if part in params])
    listed(
        console,
        "not there",
        [f"{PART_NAMES[part]}; it starts fresh" for part in parts if part not in params],
    )
    listed(console, "left out", [PART_NAMES[part] for part in params if part not in parts])
    console.print(f"tokenizer: {tokenizer_files}")
    console.print(
        "Type next (in Python):\n"
        f"  from transformers import AutoTokenizer, {architecture}\n"
        f'  model = {architecture}.from_pretrained("{output}")\n'
        f'  tokenizer = AutoTokenizer.from_pretrained("{output}")'
    )


def listed(console: Console, title: str, names: Sequence[str]) -> None:
    """Prints a line for each name."""
    for name in names:
        console.print(f"{title}: {name}")


@contextlib.contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """A folder to write into that gets the name `output` at the end, or goes if anything fails.

    `output` is not there or an empty folder, see `check_output`.
    """
    output = output.resolve()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        aside = tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent)
    except OSError as error:
        raise UserError(f"{output} cannot be written ({error.strerror}); give another") from None
    with aside as private:
        folder = Path(private) / output.name  # with the permissions that a folder usually gets
        folder.mkdir()
        yield folder
        if output.exists():
            output.rmdir()
        folder.rename(output)
