"""Parameters of other implementations: one name table, ours <-> Hugging Face <-> TF1.

Everything here is numpy in and numpy out and exact to the bit in float32. Configurations are in
`convert_config.py`. Files are read and written by `hugging_face.py` and, where TensorFlow is
needed, by `run_convert.py`.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from bert_jax.errors import UserError
from bert_jax.models.bert import BertConfig

Layout = Literal["hugging_face", "tf1"]


class Row(NamedTuple):
    """One parameter under its three names; "{}" stands for the number of a layer.

    Attributes:
      ours: path in the tree of parameters; its first word is the part it belongs to.
      hugging_face: name in a state dict of `transformers`.
      tf1: variable of google-research/bert.
      shape: of ours, as fields of BertConfig, fixed numbers, or "labels" for any size.
      transposed: the layouts that store it with its two axes swapped.
    """

    ours: str
    hugging_face: str
    tf1: str
    shape: tuple[str | int, ...]
    transposed: tuple[Layout, ...] = ()

    def name(self, layout: Layout) -> str:
        return self.hugging_face if layout == "hugging_face" else self.tf1


def _dense(ours: str, hugging_face: str, tf1: str, inputs: str, outputs: str) -> tuple[Row, Row]:
    """A dense layer: kernels are [in, out] in ours and TF1, [out, in] in torch."""
    return (
        Row(
            f"{ours}/kernel",
            f"{hugging_face}.weight",
            f"{tf1}/kernel",
            (inputs, outputs),
            ("hugging_face",),
        ),
        Row(f"{ours}/bias", f"{hugging_face}.bias", f"{tf1}/bias", (outputs,)),
    )


def _classifier(ours: str, hugging_face: str, tf1: str, classes: str | int) -> tuple[Row, Row]:
    """An output layer: the original multiplies by the transpose of its [classes, H] weights."""
    return (
        Row(
            f"{ours}/kernel",
            f"{hugging_face}.weight",
            f"{tf1}output_weights",
            ("hidden_size", classes),
            ("hugging_face", "tf1"),
        ),
        Row(f"{ours}/bias", f"{hugging_face}.bias", f"{tf1}output_bias", (classes,)),
    )


def _norm(ours: str, hugging_face: str, tf1: str) -> tuple[Row, Row]:
    """LayerNorm: scale and bias, weight and bias, gamma and beta."""
    size = ("hidden_size",)
    return (
        Row(f"{ours}/scale", f"{hugging_face}.weight", f"{tf1}/gamma", size),
        Row(f"{ours}/bias", f"{hugging_face}.bias", f"{tf1}/beta", size),
    )


def _embedding(name: str, rows: str) -> Row:
    return Row(
        f"encoder/embeddings/{name}",
        f"bert.embeddings.{name}.weight",
        f"bert/embeddings/{name}",
        (rows, "hidden_size"),
    )


_OURS, _HF, _TF1 = "encoder/layer_{}", "bert.encoder.layer.{}", "bert/encoder/layer_{}"
_H, _F = "hidden_size", "intermediate_size"

TABLE: tuple[Row, ...] = (
    _embedding("word_embeddings", "vocab_size"),
    _embedding("token_type_embeddings", "type_vocab_size"),
    _embedding("position_embeddings", "max_position_embeddings"),
    *_norm("encoder/embeddings/norm", "bert.embeddings.LayerNorm", "bert/embeddings/LayerNorm"),
    *(
        row
        for name in ("query", "key", "value")
        for row in _dense(
            f"{_OURS}/attention/{name}",
            f"{_HF}.attention.self.{name}",
            f"{_TF1}/attention/self/{name}",
            _H,
            _H,
        )
    ),
    *_dense(
        f"{_OURS}/attention/output",
        f"{_HF}.attention.output.dense",
        f"{_TF1}/attention/output/dense",
        _H,
        _H,
    ),
    *_norm(
        f"{_OURS}/attention_norm",
        f"{_HF}.attention.output.LayerNorm",
        f"{_TF1}/attention/output/LayerNorm",
    ),
    *_dense(
        f"{_OURS}/feed_forward/intermediate",
        f"{_HF}.intermediate.dense",
        f"{_TF1}/intermediate/dense",
        _H,
        _F,
    ),
    *_dense(f"{_OURS}/feed_forward/output", f"{_HF}.output.dense", f"{_TF1}/output/dense", _F, _H),
    *_norm(f"{_OURS}/feed_forward_norm", f"{_HF}.output.LayerNorm", f"{_TF1}/output/LayerNorm"),
    *_dense("pooler/dense", "bert.pooler.dense", "bert/pooler/dense", _H, _H),
    *_dense(
        "masked_lm/transform",
        "cls.predictions.transform.dense",
        "cls/predictions/transform/dense",
        _H,
        _H,
    ),
    *_norm(
        "masked_lm/norm",
        "cls.predictions.transform.LayerNorm",
        "cls/predictions/transform/LayerNorm",
    ),
    Row("masked_lm/bias", "cls.predictions.bias", "cls/predictions/output_bias", ("vocab_size",)),
    *_classifier(
        "next_sentence_head/classifier", "cls.seq_relationship", "cls/seq_relationship/", 2
    ),
    # `run_classifier.py` and `run_squad.py` of the original; the token, pair and multiple-choice
    # classifiers of `transformers` have the same name.
    *_classifier("classifier", "classifier", "", "labels"),
    *_classifier("span", "qa_outputs", "cls/squad/", 2),
)

PART_NAMES = {
    "encoder": "encoder",
    "pooler": "pooler",
    "masked_lm": "masked-LM head",
    "next_sentence_head": "next-sentence head",
    "classifier": "classifier",
    "span": "question-answering head",
}

# The parts of each model, which has the same name in `transformers` and here.
ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "BertForPreTraining": ("encoder", "pooler", "masked_lm", "next_sentence_head"),
    "BertForMaskedLM": ("encoder", "masked_lm"),
    "BertForNextSentencePrediction": ("encoder", "pooler", "next_sentence_head"),
    "BertForSequenceClassification": ("encoder", "pooler", "classifier"),
    "BertForTokenClassification": ("encoder", "classifier"),
    "BertForMultipleChoice": ("encoder", "pooler", "classifier"),
    "BertForQuestionAnswering": ("encoder", "span"),
    "BertModel": ("encoder", "pooler"),
}

# Names that old versions of `transformers` wrote.
_LEGACY_NAMES = (
    (re.compile(r"\bLayerNorm\.gamma$"), "LayerNorm.weight"),
    (re.compile(r"\bLayerNorm\.beta$"), "LayerNorm.bias"),
)
# Copies of a tied parameter, which must equal the one they are tied to.
_TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
# What belongs to no parameter: buffers, and the optimizer's variables.
_BOOKKEEPING = {
    "hugging_face": re.compile(r"\bposition_ids$|\btoken_type_ids$"),
    "tf1": re.compile(r"/adam_[mv]$|^global_step$"),
}
_LISTED = 12  # names of each kind in an error message


class Converted(NamedTuple):
    """Parameters in our tree, and what became of the rest.

    Attributes:
      params: nested dictionary of float32 arrays.
      missing: parts of a pre-training model that the checkpoint does not have, in words.
      unused: names in the checkpoint that no parameter took, optimizer and buffers left out.
    """

    params: dict[str, Any]
    missing: tuple[str, ...]
    unused: tuple[str, ...]


def from_tensors(
    tensors: Mapping[str, np.ndarray], layout: Layout, config: BertConfig
) -> Converted:
    """Our parameters from the named tensors of another implementation.

    The encoder must be whole. The pooler and each head are either whole or absent.

    Args:
      tensors: name -> array; float16 and bfloat16 are widened to float32, which is exact.
      layout: whose names these are.
      config: the architecture, which the shapes are checked against.

    Raises:
      UserError: tensors are missing, misshapen, of another type, or not known to the encoder; it
        lists their names and shapes.
    """
    if layout == "hugging_face":
        tensors = _modern_names(tensors)
    # The names of what is missing from millions of layers would fill the memory.
    if config.num_hidden_layers > max(len(tensors), 1000):
        raise UserError(
            f"num_hidden_layers is {config.num_hidden_layers:,}, while the checkpoint has "
            f"{len(tensors)} tensors in all; give the config.json of this very checkpoint"
        )
    rows = _rows(config)
    found = {row.ours.split("/")[0] for row in rows if row.name(layout) in tensors} | {"encoder"}
    problems: dict[str, list[str]] = {
        name: [] for name in ("missing", "misshapen", "not float32, float16 or bfloat16")
    }
    flat: dict[str, np.ndarray] = {}
    sizes: dict[str, int] = dataclasses.asdict(config)
    if "classifier" in found:
        bias = tensors.get("classifier.bias" if layout == "hugging_face" else "output_bias")
        sizes["labels"] = bias.shape[0] if bias is not None and bias.ndim == 1 else 1
    for row in rows:
        if row.ours.split("/")[0] not in found:
            continue
        name = row.name(layout)
        shape = tuple(sizes[size] if isinstance(size, str) else size for size in row.shape)
        stored = shape[::-1] if layout in row.transposed else shape
        if name not in tensors:
            problems["missing"].append(f"{name} {list(stored)}")
            continue
        tensor = np.asarray(tensors[name])
        if tensor.shape != stored:
            problems["misshapen"].append(f"{name} {list(tensor.shape)} instead of {list(stored)}")
        elif tensor.dtype.name not in ("float32", "float16", "bfloat16"):
            problems["not float32, float16 or bfloat16"].append(f"{name} {tensor.dtype}")
        else:
            array = tensor.T if layout in row.transposed else tensor
            flat[row.ours] = np.array(array, np.float32, order="C")
    known = {row.name(layout) for row in rows}
    extra = [
        name for name in tensors if name not in known and not _BOOKKEEPING[layout].search(name)
    ]
    problems["not known"] = [
        f"{name} {list(tensors[name].shape)}" for name in extra if re.match("bert[./]", name)
    ]
    if any(problems.values()):
        raise UserError(
            "the checkpoint is not the BERT that its configuration describes: "
            + "; ".join(f"{kind}: {listed(names)}" for kind, names in problems.items() if names)
        )
    return Converted(
        unflatten_dict(flat, sep="/"),
        tuple(
            PART_NAMES[part] for part in ARCHITECTURES["BertForPreTraining"] if part not in found
        ),
        tuple(sorted(set(extra))),
    )


def to_tensors(params: Mapping[str, Any], layout: Layout) -> dict[str, np.ndarray]:
    """The inverse of `from_tensors`, without the copies of tied parameters.

    Raises:
      ValueError: a parameter is in no row of the table.
    """
    flat = {path: np.asarray(array) for path, array in flatten_dict(dict(params), sep="/").items()}
    layers = {int(match[1]) for path in flat if (match := re.match(r"encoder/layer_(\d+)/", path))}
    tensors = {}
    for row in _rows(BertConfig(num_hidden_layers=len(layers))):
        if row.ours in flat:
            array = flat.pop(row.ours)
            tensors[row.name(layout)] = np.ascontiguousarray(
                array.T if layout in row.transposed else array
            )
    if flat:
        raise ValueError(f"parameters that no other implementation has: {sorted(flat)}")
    return tensors


def adam_from_tf1(
    tensors: Mapping[str, np.ndarray], config: BertConfig
) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Adam's moments of a TF1 checkpoint, as trees like the parameters.

    Returns:
      (first moments, second moments, the global step).

    Raises:
      UserError: the checkpoint lacks some of them.
    """
    if "global_step" not in tensors:
        raise UserError(
            "the checkpoint has no global_step, so it holds no optimizer state (released ones "
            "do not); leave out --optimizer-state"
        )
    moments = []
    for slot in ("adam_m", "adam_v"):
        named = {
            name.removesuffix(f"/{slot}"): tensor
            for name, tensor in tensors.items()
            if name.endswith(f"/{slot}")
        }
        try:
            moments.append(from_tensors(named, "tf1", config).params)
        except UserError as error:
            raise UserError(f"{slot}: {error}; or leave out --optimizer-state") from None
    return moments[0], moments[1], int(tensors["global_step"])


def _rows(config: BertConfig) -> list[Row]:
    """The table with a row for each layer."""
    rows = []
    for row in TABLE:
        numbers = range(config.num_hidden_layers) if "{}" in row.ours else (0,)
        rows += [row._replace(**_numbered(row, number)) for number in numbers]
    return rows


def _numbered(row: Row, number: int) -> dict[str, Any]:
    return {field: getattr(row, field).format(number) for field in ("ours", "hugging_face", "tf1")}


def _modern_names(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Today's names of `BertForPreTraining`, without the copies of tied parameters."""
    # A bare `BertModel` has no "bert." before its names.
    bare = not any(name.startswith("bert.") for name in tensors)
    modern = {}
    for name, tensor in tensors.items():
        for pattern, replacement in _LEGACY_NAMES:
            name = pattern.sub(replacement, name)
        if bare and name.startswith(("embeddings.", "encoder.", "pooler.")):
            name = f"bert.{name}"
        modern[name] = tensor
    for copy, name in _TIED.items():
        if copy not in modern:
            continue
        tensor = modern.pop(copy)
        if not np.array_equal(modern.setdefault(name, tensor), tensor):
            raise UserError(
                f"{copy} differs from {name}; a BERT whose output is not tied to its embedding "
                "cannot be converted"
            )
    return modern


def listed(names: list[str]) -> str:
    """The first names of a list, for an error message."""
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + rest
