"""Folders of `transformers`: config.json and model.safetensors or pytorch_model.bin."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from bert_jax.errors import UserError
from bert_jax.files import read_json
from bert_jax.interchange.configs import (
    architectures,
    config_from_hugging_face,
    config_to_hugging_face,
)
from bert_jax.interchange.names import PART_NAMES, Converted, from_tensors, names_of, to_tensors
from bert_jax.interchange.torch_pickle import read_torch_file
from bert_jax.models.architecture import EncoderConfig


class Model(NamedTuple):
    """A model read from a folder."""

    config: EncoderConfig
    converted: Converted
    class_name: str  # its class in transformers
    labels: tuple[str, ...]  # names of a classifier's classes, if they have any
    problem_type: str = ""  # what a classifier's outputs are, such as "regression", if known


def load_hugging_face(folder: Path) -> Model:
    """Reads `config.json` and the weights of a folder."""
    values = read_json(folder / "config.json")
    config = config_from_hugging_face(values)
    converted = from_tensors(_read_tensors(folder), "hugging_face", config)
    names, parts = names_of(config), set(converted.params)
    class_name = next(iter(architectures(values)), "")
    if not set(names.classes.get(class_name, ("?",))) <= parts:
        class_name = names.largest_class(parts)
    labels: tuple[str, ...] = ()
    if "classifier" in parts:
        number = converted.params["classifier"]["bias"].shape[0]
        given = values.get("id2label") or {}
        if not isinstance(given, dict):
            raise UserError(f"id2label is {given!r}; it must be a JSON object, or left out")
        unnamed = _unnamed(number)
        labels = tuple(str(given.get(str(i), name)) for i, name in enumerate(unnamed))
        labels = () if labels == unnamed else labels
    problem_type = str(values.get("problem_type") or "")
    return Model(config, converted, class_name, labels, problem_type)


def _unnamed(number: int) -> tuple[str, ...]:
    """The names that transformers gives to classes without names."""
    return tuple(f"LABEL_{i}" for i in range(number))


def save_hugging_face(
    folder: Path,
    config: EncoderConfig,
    params: Mapping[str, Any],
    class_name: str,
    pad_token_id: int,
    labels: Sequence[str] = (),
    problem_type: str = "",
) -> None:
    """Writes `config.json` and `model.safetensors` into an existing folder.

    Args:
      folder: where to write.
      config: the configuration of the model.
      params: our tree; parts that `class_name` does not have are left out.
      class_name: a class of transformers.
      pad_token_id: id of [PAD] in the vocabulary.
      labels: names of a classifier's classes, if they have any.
      problem_type: as in `Model`; without it transformers takes several outputs to be classes that
        exclude each other.
    """
    names = names_of(config)
    parts = names.classes[class_name]
    absent = [PART_NAMES[part] for part in parts if part not in params]
    if absent and (class_name, absent) != (names.bare, ["pooler"]):
        raise UserError(
            f"a {class_name} needs the {' and the '.join(absent)}, which the checkpoint does "
            f"not have; it can be written as {names.largest_class(set(params))}"
        )
    written = {part: params[part] for part in parts if part in params}
    tensors = to_tensors(written, "hugging_face", config)
    if class_name == names.bare:
        tensors = {name.removeprefix(names.prefix): tensor for name, tensor in tensors.items()}
    values = config_to_hugging_face(config) | {
        "architectures": [class_name],
        "pad_token_id": pad_token_id,
    }
    if "classifier" in parts:  # the names also tell the number of outputs
        labels = labels or _unnamed(len(params["classifier"]["bias"]))
        values["id2label"] = {str(i): label for i, label in enumerate(labels)}
        values["label2id"] = {label: i for i, label in enumerate(labels)}
        values |= {"problem_type": problem_type} if problem_type else {}
    (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _read_tensors(folder: Path) -> dict[str, np.ndarray]:
    """The named tensors of a folder, from all its shards."""
    for name, read in (
        ("model.safetensors", _read_safetensors),
        ("pytorch_model.bin", read_torch_file),
    ):
        if (folder / name).is_file():
            return read(folder / name)
        index = folder / f"{name}.index.json"
        if index.is_file():
            shards = read_json(index).get("weight_map")
            if not isinstance(shards, dict) or not all(
                isinstance(shard, str) and Path(shard).name for shard in shards.values()
            ):
                raise UserError(f"{index} has no weight_map from names to files; copy it again")
            tensors: dict[str, np.ndarray] = {}
            for shard in sorted(set(shards.values())):
                tensors |= read(folder / Path(shard).name)
            return tensors
    raise UserError(
        f"{folder} holds neither model.safetensors nor pytorch_model.bin; give the folder of a "
        "Hugging Face model"
    )


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} is damaged or cut off ({str(error).splitlines()[0]}); copy it again"
        ) from None
