"""Configurations of `transformers`, for every family that exists there."""

from collections.abc import Mapping
from typing import Any

from bert_jax.errors import UserError
from bert_jax.interchange.names import names_of
from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.registry import ARCHITECTURES, DEFAULT, architecture_of


def config_from_hugging_face(values: Mapping[str, Any]) -> EncoderConfig:
    """Our configuration from a `config.json`."""
    known = {name: each.names for name, each in ARCHITECTURES.items() if each.names is not None}
    model_type = values.get("model_type")
    if model_type is None:  # old files may lack it
        first = next(iter(architectures(values)), "")
        fitting = (name for name, names in known.items() if first.startswith(names.stem))
        model_type = next(fitting, first or DEFAULT)
    if not isinstance(model_type, str) or model_type not in known:
        raise UserError(
            f"the model type is {model_type!r}; only {', '.join(map(repr, known))} can be "
            "converted (RoBERTa counts its positions from 2, DeBERTa and ALBERT have other layers)"
        )
    return known[model_type].config_from(values)


def architectures(values: Mapping[str, Any]) -> list[str]:
    """The names of model classes in a `config.json`."""
    names = values.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"architectures is {names!r}; it must be a list of names, or left out")
    return names


def config_to_hugging_face(config: EncoderConfig) -> dict[str, Any]:
    """The part of a `config.json` that describes the encoder."""
    return {"model_type": architecture_of(config).name, **names_of(config).config_to(config)}
