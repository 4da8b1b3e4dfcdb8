"""The known architectures, and saved configurations, which name one of them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from bert_jax.errors import UserError
from bert_jax.models.architecture import Architecture, EncoderConfig
from bert_jax.models.bert_architecture import BERT

ARCHITECTURES: dict[str, Architecture] = {each.name: each for each in (BERT,)}
DEFAULT = BERT.name  # for old configurations, which name no family


def architecture_of(config: EncoderConfig) -> Architecture:
    """The family of a configuration."""
    return next(each for each in ARCHITECTURES.values() if each.config is type(config))


def config_to_saved(config: EncoderConfig) -> dict[str, Any]:
    """A configuration as work folders and checkpoints save it, in JSON values."""
    return {"model_type": architecture_of(config).name, **dataclasses.asdict(config)}


def of_today(saved: Mapping[str, Any]) -> dict[str, Any]:
    """A saved configuration of any age in today's form."""
    return {"model_type": DEFAULT, **saved}


def config_from_saved(saved: Mapping[str, Any]) -> EncoderConfig:
    """The inverse of `config_to_saved`."""
    values = of_today(saved)
    name = values.pop("model_type")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise UserError(
            f"the model's architecture is {name!r}, which is unknown; known are "
            f"{', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[name].config(**values)
