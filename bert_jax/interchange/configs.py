"""Others' configurations: Hugging Face's `config.json`, the original's `bert_config.json`."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from bert_jax.bounds import check_bounds
from bert_jax.errors import UserError
from bert_jax.models.bert import BertConfig

# `transformers`' activations that are one of our two forms.
_ACTIVATIONS: dict[str, Literal["gelu", "gelu_tanh"]] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def config_from_hugging_face(values: Mapping[str, Any]) -> BertConfig:
    """Our configuration from a `config.json`; what it does not name has BERT's defaults.

    Raises:
      UserError: the model is not a BERT encoder, or has something that ours lacks.
    """
    model_type = values.get("model_type")
    names = architectures(values)
    if model_type is None and names and not names[0].startswith("Bert"):
        model_type = names[0]
    if model_type not in (None, "bert"):
        raise UserError(
            f"the model type is {model_type!r}; only 'bert' can be converted (RoBERTa counts its "
            "positions from 2, DeBERTa and ALBERT have other layers)"
        )
    activation = values.get("hidden_act", "gelu")
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise UserError(
            f"hidden_act is {activation!r}; known are {', '.join(sorted(_ACTIVATIONS))}"
        )
    for name, expected in (
        ("position_embedding_type", "absolute"),
        ("is_decoder", False),
        ("add_cross_attention", False),
    ):
        if values.get(name, expected) != expected:
            raise UserError(f"{name} is {values[name]!r}; only {expected!r} can be converted")
    return _config(values, _ACTIVATIONS[activation])


def architectures(values: Mapping[str, Any]) -> list[str]:
    """The names of model classes in a `config.json`.

    Raises:
      UserError: they are no list of names.
    """
    names = values.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"architectures is {names!r}; it must be a list of names, or left out")
    return names


def config_to_hugging_face(config: BertConfig) -> dict[str, Any]:
    """The part of a `config.json` that describes the encoder."""
    values = dataclasses.asdict(config)
    for ours in ("remat", "dtype"):
        del values[ours]
    values["hidden_act"] = "gelu" if config.hidden_act == "gelu" else "gelu_pytorch_tanh"
    return {"model_type": "bert", "position_embedding_type": "absolute"} | values


def config_from_tf1(values: Mapping[str, Any], gelu: Literal["erf", "tanh"]) -> BertConfig:
    """Our configuration from a `bert_config.json`.

    Args:
      values: its content.
      gelu: the form that the file's "gelu" stands for: "erf" until February 2019, "tanh" since.

    Raises:
      UserError: it has another activation, or a value of another type.
    """
    if values.get("hidden_act", "gelu") != "gelu":
        raise UserError(f"hidden_act is {values['hidden_act']!r}; only 'gelu' can be converted")
    if "vocab_size" not in values:
        raise UserError("bert_config.json names no vocab_size; it is not a BERT configuration")
    # `BertConfig` of the original: 16 token types unless it says otherwise.
    return _config({"type_vocab_size": 16, **values}, "gelu" if gelu == "erf" else "gelu_tanh")


def _config(values: Mapping[str, Any], hidden_act: Literal["gelu", "gelu_tanh"]) -> BertConfig:
    """The numbers of another configuration, checked."""
    known: dict[str, Any] = {"hidden_act": hidden_act}
    for field in dataclasses.fields(BertConfig):
        if field.name in values and field.name not in ("hidden_act", "remat", "dtype"):
            value, kind = values[field.name], float if field.type is float else int
            if isinstance(value, bool) or not isinstance(value, (int, kind)):
                raise UserError(f"{field.name} is {value!r}; it must be of type {kind.__name__}")
            known[field.name] = kind(value)
    config = BertConfig(**known)
    check_bounds(config, "model.")
    config.validate()
    return config
