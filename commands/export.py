"""Exports a checkpoint to a folder that `transformers` can load."""

from collections.abc import Collection, Sequence
from pathlib import Path

from rich.console import Console

from bert_jax.errors import UserError
from bert_jax.interchange.hugging_face import save_hugging_face
from bert_jax.interchange.names import PART_NAMES, names_of
from bert_jax.models.adapters import merge
from bert_jax.models.config import method_of
from bert_jax.models.registry import ARCHITECTURES, config_from_saved
from commands.folders import whole_folder
from commands.saved_model import load_run
from data_pipeline.tokenization.hugging_face import save_for_transformers
from data_pipeline.tokenization.loading import load_tokenizer


def to_hugging_face(
    checkpoint: Path,
    output: Path,
    console: Console,
    *,
    step: int | None = None,
    class_name: str | None = None,
) -> None:
    """Exports a checkpoint to a folder that `transformers` can load.

    Args:
      checkpoint: work folder of a run, or output of run_convert.py.
      output: new folder.
      console: for the report.
      step: of the checkpoint; by default the run's result.
      class_name: class of `transformers`; by default the one that the checkpoint names, or the
        largest one that it has all parts of.
    """
    families = [each.names for each in ARCHITECTURES.values() if each.names]
    _check_class(class_name, [name for names in families for name in names.classes])
    params, saved, found_step = load_run(checkpoint, step)
    params = merge(method_of(saved), params)
    config = config_from_saved(saved["model"])
    names = names_of(config)
    _check_class(class_name, names.classes)
    tokenizer = load_tokenizer(checkpoint)
    if tokenizer.vocab_size != config.vocab_size:
        raise UserError(
            f"the vocabulary in {checkpoint} has {tokenizer.vocab_size} pieces, the embedding "
            f"{config.vocab_size} rows"
        )
    class_name = class_name or saved.get("architecture", names.largest_class(set(params)))
    if not class_name:
        raise UserError(
            f"transformers has no model with the output layer of {saved['task']}; --architecture "
            f"{names.bare} writes the encoder"
        )
    with whole_folder(output) as folder:
        save_hugging_face(
            folder,
            config,
            params,
            class_name,
            tokenizer.special_ids["pad"],
            saved.get("labels", ()),
            saved.get("problem_type", ""),
        )
        tokenizer_files = save_for_transformers(tokenizer, folder, config.max_position_embeddings)
    parts = names.classes[class_name]
    console.print(f"{output}: {class_name} of {checkpoint}, step {found_step}")
    listed(console, "written", [PART_NAMES[part] for part in parts if part in params])
    missing = [f"{PART_NAMES[part]}; it starts fresh" for part in parts if part not in params]
    listed(console, "not there", missing)
    listed(
        console, "left out", [PART_NAMES.get(part, part) for part in params if part not in parts]
    )
    console.print(f"tokenizer: {tokenizer_files}")
    console.print(
        "Type next (in Python):\n"
        f"  from transformers import AutoTokenizer, {class_name}\n"
        f'  model = {class_name}.from_pretrained("{output}")\n'
        f'  tokenizer = AutoTokenizer.from_pretrained("{output}")'
    )


def _check_class(name: str | None, known: Collection[str]) -> None:
    if name not in (None, *known):
        raise UserError(f"--architecture {name} is unknown; there are: {', '.join(known)}")


def listed(console: Console, title: str, names: Sequence[str]) -> None:
    """Prints a line for each name."""
    for name in names:
        console.print(f"{title}: {name}")
