"""Reads the model of a checkpoint: ours, Hugging Face's or TF1's."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bert_jax.errors import UserError
from bert_jax.files import read_json
from bert_jax.interchange.hugging_face import load_hugging_face
from bert_jax.interchange.names import from_tensors, names_of
from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.bert_names import config_from_tf1
from bert_jax.models.registry import config_from_saved
from bert_jax.training.saved_params import load_params
from data_pipeline.tensorflow_setup import import_tensorflow
from data_pipeline.tokenization.hugging_face import load_foreign_tokenizer
from data_pipeline.tokenization.interface import Tokenizer
from data_pipeline.tokenization.loading import load_tokenizer


class SavedModel(NamedTuple):
    """A model read from a checkpoint.

    Attributes:
      params: numpy arrays.
      origin: where it comes from, for messages.
      saved: the configuration in the checkpoint; of a foreign model only its "architecture" and the
        names of its classes, "labels".
      step: of the run's checkpoint; None for a foreign model.
    """

    params: Any
    model: EncoderConfig
    tokenizer: Tokenizer
    origin: str
    saved: dict[str, Any]
    step: int | None = None


def open_model(folder: Path, step: int | None = None) -> SavedModel:
    """Reads a checkpoint and converts it if it is not ours.

    It may be a run's, of a given step or else the best or the latest one, run_convert.py's, one of
    `transformers`, or one of google-research/bert, whose GELU is taken to be the exact one.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder of a checkpoint")
    if (folder / "checkpoints").is_dir():
        params, saved, found = load_run(folder, step)
        model, tokenizer = config_from_saved(saved["model"]), load_tokenizer(folder)
        source = SavedModel(params, model, tokenizer, f"{folder}, step {found}", saved, found)
    elif (folder / "config.json").is_file():
        read = load_hugging_face(folder)
        tokenizer, _ = load_foreign_tokenizer(folder)
        origin = f"{folder}, converted from Hugging Face's {read.class_name}"
        saved = {"architecture": read.class_name, "labels": list(read.labels)}
        source = SavedModel(read.converted.params, read.config, tokenizer, origin, saved)
    elif (folder / "bert_config.json").is_file():
        model = config_from_tf1(read_json(folder / "bert_config.json"), "erf")
        tensors = read_tf1(checkpoint_prefix(folder), optimizer_state=False)
        tokenizer, _ = load_foreign_tokenizer(folder)
        params = from_tensors(tensors, "tf1", model).params
        saved = {"architecture": names_of(model).largest_class(set(params)), "labels": []}
        source = SavedModel(params, model, tokenizer, f"{folder}, converted from TF1", saved)
    elif (folder / "seeds.json").is_file():
        raise UserError(
            f"{folder} holds the runs of several seeds; give one of them: "
            f"{', '.join(sorted(map(str, folder.glob('seed-*'))))}"
        )
    else:
        raise UserError(
            f"{folder} holds no checkpoint: neither checkpoints/ (a run of ours), nor config.json "
            "(Hugging Face), nor bert_config.json (TF1); give another folder"
        )
    if source.tokenizer.vocab_size != source.model.vocab_size:
        raise UserError(
            f"the vocabulary in {folder} has {source.tokenizer.vocab_size:,} pieces, the embedding "
            f"{source.model.vocab_size:,} rows; put the right vocabulary there, or convert the "
            "model with run_convert.py --resize-vocabulary"
        )
    return source


def is_unfinished(folder: Path) -> bool:
    """Whether the folder is that of a run that has not ended."""
    return (folder / "metrics.jsonl").is_file() and not (folder / "summary.json").is_file()


def settings_of(folder: Path, step: int | None, say: Callable[[str], None]) -> dict[str, Any]:
    """What `Task.tune` chose, empty if the run has not ended; warns if it was for another step."""
    path = folder / "summary.json"
    summary = read_json(path) if path.is_file() else {}
    settings: dict[str, Any] = summary.get("settings", {})
    if settings and step != summary["step"]:
        say(
            f"{' and '.join(settings)} in {path} is for step {summary['step']}, not for step "
            f"{step}, which may need a different value"
        )
    return settings


def check_stays(folder: Path, method: str) -> None:
    """Refuses an unfinished run as the base of `method`: it will delete its current checkpoint."""
    if is_unfinished(folder):
        raise UserError(
            f"the run in {folder} is not finished and will delete the checkpoint that {method} "
            "would start from and keep needing; wait until it is finished, or start from a copy: "
            f"python run_convert.py to-hf --checkpoint {folder} --output DIR"
        )


def load_run(
    folder: Path, step: int | None = None, base: Path | None = None
) -> tuple[Any, dict[str, Any], int]:
    """`load_params` for any run, also a partly saved one, whose base may have moved to `base`."""

    def read_base(named: Mapping[str, Any]) -> Any:
        path = base or Path(named["folder"])
        if not path.is_dir() and (folder / "config.json").is_file():
            # The model may have moved before the run was last continued.
            path = Path(read_json(folder / "config.json").get("base", named)["folder"])
        if not path.is_dir():
            raise UserError(
                f"{folder} holds only what was trained on top of {path}, which is gone; restore "
                "it, repeat the run's command with the new place as --init-from, or merge LoRA or "
                f"BitFit: python run_convert.py merge --checkpoint {folder} --base DIR --output DIR"
            )
        return open_model(path, named["step"]).params

    return load_params(folder, step, read_base)


def checkpoint_prefix(folder: Path, name: str | None = None) -> Path:
    """The path of a folder's checkpoint without ".index"; `name` chooses one of several."""
    names = sorted(path.name.removesuffix(".index") for path in folder.glob("*.index"))
    if name is None and len(names) == 1:
        return folder / names[0]
    if name in names:
        return folder / name
    if not names:
        raise UserError(
            f"{folder} holds no TF1 checkpoint (no file *.index); give the folder of "
            "bert_model.ckpt.index"
        )
    raise UserError(f"{folder} holds {', '.join(names)}; add --name with one of them")


def read_tf1(prefix: Path, optimizer_state: bool) -> dict[str, np.ndarray]:
    """The variables of a TF1 checkpoint by name, Adam's moments only with `optimizer_state`."""
    tf = import_tensorflow()
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        names = reader.get_variable_to_shape_map()
        if "_CHECKPOINTABLE_OBJECT_GRAPH" in names:
            raise UserError(
                f"{prefix} is a TF2 checkpoint; give a TF1 one, such as google-research/bert wrote"
            )
        return {
            name: np.asarray(reader.get_tensor(name))
            for name in names
            if optimizer_state or not name.endswith(("/adam_m", "/adam_v"))
        }
    except (tf.errors.OpError, ValueError, RuntimeError, LookupError) as error:
        raise UserError(
            f"{prefix} cannot be read ({str(error).splitlines()[0]}); copy all its files again"
        ) from None
