"""Where a fine-tuning starts: a checkpoint of ours, of Hugging Face or of TF1."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bert_jax.errors import UserError
from bert_jax.files import read_json
from bert_jax.interchange.hugging_face import load_hugging_face
from bert_jax.interchange.names import from_tensors, names_of
from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.bert_names import config_from_tf1
from bert_jax.models.registry import config_from_saved
from bert_jax.training.saved_params import load_params
from commands.tf1 import checkpoint_prefix, read_tf1
from data_pipeline.tokenization.hugging_face import load_foreign_tokenizer
from data_pipeline.tokenization.interface import Tokenizer
from data_pipeline.tokenization.loading import load_tokenizer


class SavedModel(NamedTuple):
    """A pre-trained model.

    Attributes:
      params: its parameters, numpy arrays.
      model: its architecture.
      tokenizer: its tokenizer.
      origin: where it is from, in words.
      saved: the configuration that is saved in it; of models of others only the "architecture" and
        the names of its classes, "labels".
      step: which checkpoint of a run; None for models of others.
    """

    params: Any
    model: EncoderConfig
    tokenizer: Tokenizer
    origin: str
    saved: dict[str, Any]
    step: int | None = None


def open_model(folder: Path, step: int | None = None) -> SavedModel:
    """Reads a checkpoint, converting it where it is not ours.

    Args:
      folder: work folder of a run, what run_convert.py wrote, a folder of transformers, or one of
        google-research/bert (its GELU is taken to be the exact one; run_convert.py can be told
        otherwise).
      step: which checkpoint of a run; the best, else the latest, by default.

    Raises:
      UserError: the folder holds none of these, or its parts do not fit together.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give that of a checkpoint")
    if (folder / "checkpoints").is_dir():
        params, saved, found = load_run(folder, step)
        model = config_from_saved(saved["model"])
        origin = f"{folder}, step {found}"
        source = SavedModel(params, model, load_tokenizer(folder), origin, saved, found)
    elif (folder / "config.json").is_file():
        read = load_hugging_face(folder)
        tokenizer, _ = load_foreign_tokenizer(folder)
        origin = f"{folder}, converted from Hugging Face's {read.architecture}"
        saved = {"architecture": read.architecture, "labels": list(read.labels)}
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
            f"{folder} holds a run for each of several seeds; name one of them: "
            f"{', '.join(sorted(map(str, folder.glob('seed-*'))))}"
        )
    else:
        raise UserError(
            f"{folder} holds no checkpoint: neither checkpoints/ (a run of ours), nor config.json "
            "(Hugging Face), nor bert_config.json (TF1)"
        )
    if source.tokenizer.vocab_size != source.model.vocab_size:
        raise UserError(
            f"the vocabulary in {folder} has {source.tokenizer.vocab_size:,} pieces, the model "
            f"{source.model.vocab_size:,} rows; give the right vocabulary, or convert it with "
            "run_convert.py --resize-vocabulary"
        )
    return source


def is_unfinished(folder: Path) -> bool:
    """Whether a folder is that of a run which has not come to its end."""
    return (folder / "metrics.jsonl").is_file() and not (folder / "summary.json").is_file()


def settings_of(folder: Path, step: int | None, say: Callable[[str], None]) -> dict[str, Any]:
    """What `Task.tune` decided; nothing in a run that has not ended.

    It says so where that was for another step than the one that is asked.
    """
    path = folder / "summary.json"
    summary = read_json(path) if path.is_file() else {}
    settings: dict[str, Any] = summary.get("settings", {})
    if settings and step != summary["step"]:
        say(
            f"{' and '.join(settings)} in {path} is for step {summary['step']}, not for step "
            f"{step}, which may need another"
        )
    return settings


def check_stays(folder: Path, method: str) -> None:
    """Raises UserError for a run that is not finished, which will delete the checkpoint it has now.

    Args:
      folder: of a checkpoint, see `open_model`.
      method: whose checkpoints will need that of the folder.
    """
    if is_unfinished(folder):
        raise UserError(
            f"the run in {folder} is not finished and deletes its older checkpoints, but what "
            f"{method} trains can be read only together with the one it started from; wait until "
            "the run is finished, or start from a copy: python run_convert.py to-hf --checkpoint "
            f"{folder} --output DIR"
        )


def load_run(
    folder: Path, step: int | None = None, base: Path | None = None
) -> tuple[Any, dict[str, Any], int]:
    """`checkpoint.load_params` of any run, also of one that saved only what it trained.

    Args:
      folder: the run's work folder.
      step: which checkpoint; the best, else the latest, by default.
      base: where the model is that the run started from, if it is no longer where it was.

    Raises:
      UserError: there is no such checkpoint, or its base is gone or not what it was.
    """

    def read_base(named: Mapping[str, Any]) -> Any:
        path = base or Path(named["folder"])
        if not path.is_dir() and (folder / "config.json").is_file():
            # Where the run was last continued from.
            path = Path(read_json(folder / "config.json").get("base", named)["folder"])
        if not path.is_dir():
            raise UserError(
                f"{folder} holds only what was trained on top of {path}, which is gone; bring it "
                "back, type the command of that run again with its new place as --init-from, or "
                f"merge LoRA or BitFit into it: python run_convert.py merge --checkpoint {folder} "
                "--base DIR --output DIR"
            )
        return open_model(path, named["step"]).params

    return load_params(folder, step, read_base)
