"""BERT under the names of `transformers` and of google-research/bert: parameters, configuration."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from bert_jax.bounds import check_bounds
from bert_jax.errors import UserError
from bert_jax.models.config import BertConfig
from bert_jax.models.foreign_names import ForeignNames, Row, dense, norm, numbers_of

# `transformers`' activations that are one of our two forms.
_ACTIVATIONS: dict[str, Literal["gelu", "gelu_tanh"]] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def rows(config: BertConfig) -> Iterator[Row]:
    """A row for each parameter."""
    hidden, feed_forward = config.hidden_size, config.intermediate_size
    for name, size in (
        ("word_embeddings", config.vocab_size),
        ("token_type_embeddings", config.type_vocab_size),
        ("position_embeddings", config.max_position_embeddings),
    ):
        yield Row(
            f"encoder/embeddings/{name}",
            f"bert.embeddings.{name}.weight",
            f"bert/embeddings/{name}",
            (size, hidden),
        )
    embeddings = "encoder/embeddings/norm", "bert.embeddings.LayerNorm", "bert/embeddings/LayerNorm"
    yield from norm(*embeddings, hidden)
    for number in range(config.num_hidden_layers):
        block = f"encoder/layer_{number}", f"bert.encoder.layer.{number}"
        for ours, theirs, inputs, outputs in (
            ("attention/query", "attention.self.query", hidden, hidden),
            ("attention/key", "attention.self.key", hidden, hidden),
            ("attention/value", "attention.self.value", hidden, hidden),
            ("attention/output", "attention.output.dense", hidden, hidden),
            ("feed_forward/intermediate", "intermediate.dense", hidden, feed_forward),
            ("feed_forward/output", "output.dense", feed_forward, hidden),
        ):
            tf1 = f"bert/encoder/layer_{number}/{theirs.replace('.', '/')}"
            yield from dense(f"{block[0]}/{ours}", f"{block[1]}.{theirs}", tf1, inputs, outputs)
        for ours, theirs in (
            ("attention_norm", "attention.output"),
            ("feed_forward_norm", "output"),
        ):
            tf1 = f"bert/encoder/layer_{number}/{theirs.replace('.', '/')}/LayerNorm"
            yield from norm(f"{block[0]}/{ours}", f"{block[1]}.{theirs}.LayerNorm", tf1, hidden)
    yield from dense("pooler/dense", "bert.pooler.dense", "bert/pooler/dense", hidden, hidden)
    transform = "cls.predictions.transform", "cls/predictions/transform"
    yield from dense(
        "masked_lm/transform", f"{transform[0]}.dense", f"{transform[1]}/dense", hidden, hidden
    )
    yield from norm(
        "masked_lm/norm", f"{transform[0]}.LayerNorm", f"{transform[1]}/LayerNorm", hidden
    )
    bias = "cls.predictions.bias", "cls/predictions/output_bias"
    yield Row("masked_lm/bias", *bias, (config.vocab_size,))
    # `run_classifier.py` and `run_squad.py` of the original; the token, pair and multiple-choice
    # classifiers of `transformers` have the same name.
    for ours, theirs, tf1, classes in (
        ("next_sentence_head/classifier", "cls.seq_relationship", "cls/seq_relationship/", 2),
        ("classifier", "classifier", "", None),
        ("span", "qa_outputs", "cls/squad/", 2),
    ):
        # The original multiplies by the transpose of its weights [classes, H].
        yield Row(
            f"{ours}/kernel",
            f"{theirs}.weight",
            f"{tf1}output_weights",
            (hidden, classes),
            ("hugging_face", "tf1"),
        )
        yield Row(f"{ours}/bias", f"{theirs}.bias", f"{tf1}output_bias", (classes,))


def config_from_hugging_face(values: Mapping[str, Any]) -> BertConfig:
    """Our configuration from a `config.json`; what it does not name has BERT's defaults."""
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


def config_to_hugging_face(config: BertConfig) -> dict[str, Any]:
    """The part of a `config.json` that describes the encoder."""
    values = dataclasses.asdict(config)
    for ours in ("remat", "dtype"):
        del values[ours]
    values["hidden_act"] = "gelu" if config.hidden_act == "gelu" else "gelu_pytorch_tanh"
    return {"position_embedding_type": "absolute"} | values


def config_from_tf1(values: Mapping[str, Any], gelu: Literal["erf", "tanh"]) -> BertConfig:
    """Our configuration from a `bert_config.json`.

    Args:
      values: its content.
      gelu: the form that the file's "gelu" stands for: "erf" until February 2019, "tanh" since.
    """
    if values.get("hidden_act", "gelu") != "gelu":
        raise UserError(f"hidden_act is {values['hidden_act']!r}; only 'gelu' can be converted")
    if "vocab_size" not in values:
        raise UserError("bert_config.json names no vocab_size; it is not a BERT configuration")
    # `BertConfig` of the original: 16 token types unless it says otherwise.
    return _config({"type_vocab_size": 16, **values}, "gelu" if gelu == "erf" else "gelu_tanh")


def _config(values: Mapping[str, Any], hidden_act: Literal["gelu", "gelu_tanh"]) -> BertConfig:
    numbers: Mapping[str, Any] = numbers_of(BertConfig, values)
    config = BertConfig(hidden_act=hidden_act, **numbers)
    check_bounds(config, "model.")
    config.validate()
    return config


NAMES = ForeignNames(
    rows=rows,
    classes={
        "BertForPreTraining": ("encoder", "pooler", "masked_lm", "next_sentence_head"),
        "BertForMaskedLM": ("encoder", "masked_lm"),
        "BertForNextSentencePrediction": ("encoder", "pooler", "next_sentence_head"),
        "BertForSequenceClassification": ("encoder", "pooler", "classifier"),
        "BertForTokenClassification": ("encoder", "classifier"),
        "BertForMultipleChoice": ("encoder", "pooler", "classifier"),
        "BertForQuestionAnswering": ("encoder", "span"),
        "BertModel": ("encoder", "pooler"),
    },
    stem="Bert",
    prefix="bert.",
    config_from=config_from_hugging_face,
    config_to=config_to_hugging_face,
    tied={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    legacy=(
        (re.compile(r"\bLayerNorm\.gamma$"), "LayerNorm.weight"),
        (re.compile(r"\bLayerNorm\.beta$"), "LayerNorm.bias"),
    ),
)
