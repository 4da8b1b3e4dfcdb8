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

    def tf1(theirs: str) -> str:
        return theirs.replace(".layer.", ".layer_").replace(".", "/")

    def dense_rows(
        ours: str, theirs: str, inputs: int = hidden, outputs: int = hidden
    ) -> tuple[Row, Row]:
        return dense(ours, theirs, tf1(theirs), inputs, outputs)

    def norm_rows(ours: str, theirs: str) -> tuple[Row, Row]:
        return norm(ours, f"{theirs}.LayerNorm", f"{tf1(theirs)}/LayerNorm", hidden)

    for name, size in (
        ("word_embeddings", config.vocab_size),
        ("token_type_embeddings", config.type_vocab_size),
        ("position_embeddings", config.max_position_embeddings),
    ):
        theirs = f"bert.embeddings.{name}"
        yield Row(f"encoder/embeddings/{name}", f"{theirs}.weight", tf1(theirs), (size, hidden))
    yield from norm_rows("encoder/embeddings/norm", "bert.embeddings")
    for number in range(config.num_hidden_layers):
        ours, theirs = f"encoder/layer_{number}", f"bert.encoder.layer.{number}"
        for name in ("query", "key", "value"):
            yield from dense_rows(f"{ours}/attention/{name}", f"{theirs}.attention.self.{name}")
        yield from dense_rows(f"{ours}/attention/output", f"{theirs}.attention.output.dense")
        intermediate = f"{ours}/feed_forward/intermediate", f"{theirs}.intermediate.dense"
        yield from dense_rows(*intermediate, hidden, feed_forward)
        output = f"{ours}/feed_forward/output", f"{theirs}.output.dense"
        yield from dense_rows(*output, feed_forward, hidden)
        yield from norm_rows(f"{ours}/attention_norm", f"{theirs}.attention.output")
        yield from norm_rows(f"{ours}/feed_forward_norm", f"{theirs}.output")
    yield from dense_rows("pooler/dense", "bert.pooler.dense")
    yield from dense_rows("masked_lm/transform", "cls.predictions.transform.dense")
    yield from norm_rows("masked_lm/norm", "cls.predictions.transform")
    bias = "cls.predictions.bias", "cls/predictions/output_bias"
    yield Row("masked_lm/bias", *bias, (config.vocab_size,))
    # Those of the original's `run_classifier.py` and `run_squad.py`; all classifiers of
    # `transformers`, such as that of multiple choice, have the same name.
    for ours, theirs, prefix, classes in (
        ("next_sentence_head/classifier", "cls.seq_relationship", "cls/seq_relationship/", 2),
        ("classifier", "classifier", "", None),
        ("span", "qa_outputs", "cls/squad/", 2),
    ):
        # The original multiplies by the transpose of its weights [classes, H].
        kernel = f"{ours}/kernel", f"{theirs}.weight", f"{prefix}output_weights"
        yield Row(*kernel, (hidden, classes), transposed=("hugging_face", "tf1"))
        yield Row(f"{ours}/bias", f"{theirs}.bias", f"{prefix}output_bias", (classes,))


def config_from_hugging_face(values: Mapping[str, Any]) -> BertConfig:
    """Our configuration from a `config.json`; what that leaves out has BERT's defaults."""
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
    del values["remat"], values["dtype"]
    values["hidden_act"] = "gelu" if config.hidden_act == "gelu" else "gelu_pytorch_tanh"
    return {"position_embedding_type": "absolute"} | values


def config_from_tf1(values: Mapping[str, Any], gelu: Literal["erf", "tanh"]) -> BertConfig:
    """Our configuration from a `bert_config.json`.

    Its "gelu" means the form `gelu`: "erf" until February 2019, "tanh" since then.
    """
    if values.get("hidden_act", "gelu") != "gelu":
        raise UserError(f"hidden_act is {values['hidden_act']!r}; only 'gelu' can be converted")
    if "vocab_size" not in values:
        raise UserError("bert_config.json names no vocab_size; it is not a BERT configuration")
    # As the original's `BertConfig`, which has 16 token types by default.
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
