"""The architectures that there are, and configurations that name one of them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from bert_jax.errors import UserError
from bert_jax.models.architecture import Architecture, EncoderConfig
from bert_jax.models.bert_architecture import BERT

ARCHITECTURES: dict[str, Architecture] = {each.name: each for each in (BERT,)}
DEFAULT = BERT.name  # of configurations from before there was a choice, which name none


def architecture_of(config: EncoderConfig) -> Architecture:
    """The family that a configuration is of."""
    return next(each for each in ARCHITECTURES.values() if each.config is type(config))


def config_to_saved(config: EncoderConfig) -> dict[str, Any]:
    """What work folders and checkpoints keep of a configuration, as JSON values."""
    return {"model_type": architecture_of(config).name, **dataclasses.asdict(config)}


def of_today(saved: Mapping[str, Any]) -> dict[str, Any]:
    """A saved configuration of any age as one of today."""
    return {"model_type": DEFAULT, **saved}


def config_from_saved(saved: Mapping[str, Any]) -> EncoderConfig:
    """The inverse of `config_to_saved`."""
    values = of_today(saved)
    name = values.pop("model_type")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise UserError(
            f"the model is of the architecture {name!r}, which is unknown here; there are: "
            f"{', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[name].config(**values)
