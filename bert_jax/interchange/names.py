"""Parameters of other implementations: ours <-> Hugging Face <-> TF1 by a family's table of names.

All of them are numpy arrays, and conversion is exact to the bit in float32. `hugging_face.py` reads
and writes files; `commands/saved_model.py` those that need TensorFlow.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from bert_jax.errors import UserError
from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.foreign_names import ForeignNames, Layout
from bert_jax.models.registry import architecture_of

PART_NAMES = {
    "encoder": "encoder",
    "pooler": "pooler",
    "masked_lm": "masked-LM head",
    "next_sentence_head": "next-sentence head",
    "classifier": "classifier",
    "span": "question-answering head",
}

# Tensors that are not parameters: buffers, and the optimizer's variables.
_BOOKKEEPING = {
    "hugging_face": re.compile(r"\bposition_ids$|\btoken_type_ids$"),
    "tf1": re.compile(r"/adam_[mv]$|^global_step$"),
}
_LISTED = 12  # most names of each kind in an error message


class Converted(NamedTuple):
    """Parameters in our tree, and what became of the rest."""

    params: dict[str, Any]  # nested, float32
    missing: tuple[str, ...]  # parts of a pre-training model that the checkpoint lacks, in words
    unused: tuple[str, ...]  # names of other tensors, without the optimizer's and buffers


def from_tensors(
    tensors: Mapping[str, np.ndarray], layout: Layout, config: EncoderConfig
) -> Converted:
    """Our parameters from the named tensors of another implementation, which `layout` names.

    The encoder must be complete; the pooler and each head must be complete or absent. float16 and
    bfloat16 are widened to float32, which is exact.
    """
    names = names_of(config)
    # A list of what is missing from millions of layers would fill the memory.
    if config.num_hidden_layers > max(len(tensors), 1000):
        raise UserError(
            f"num_hidden_layers is {config.num_hidden_layers:,}, but the checkpoint has only "
            f"{len(tensors)} tensors; give the config.json that belongs to this checkpoint"
        )
    rows = list(names.rows(config))
    if layout == "hugging_face":
        tensors = _modern_names(tensors, names, [row.hugging_face for row in rows])
    found = {row.ours.split("/")[0] for row in rows if row.name(layout) in tensors} | {"encoder"}
    other_type = "not float32, float16 or bfloat16"
    problems: dict[str, list[str]] = {"missing": [], "misshapen": [], other_type: []}
    flat: dict[str, np.ndarray] = {}
    bias = next((tensors.get(row.name(layout)) for row in rows if row.shape == (None,)), None)
    labels = bias.shape[0] if bias is not None and bias.ndim == 1 else 1
    for row in rows:
        if row.ours.split("/")[0] not in found:
            continue
        name = row.name(layout)
        shape = tuple(labels if size is None else size for size in row.shape)
        stored = shape[::-1] if layout in row.transposed else shape
        if name not in tensors:
            problems["missing"].append(f"{name} {list(stored)}")
            continue
        tensor = np.asarray(tensors[name])
        if tensor.shape != stored:
            problems["misshapen"].append(f"{name} {list(tensor.shape)} instead of {list(stored)}")
        elif tensor.dtype.name not in ("float32", "float16", "bfloat16"):
            problems[other_type].append(f"{name} {tensor.dtype}")
        else:
            array = tensor.T if layout in row.transposed else tensor
            flat[row.ours] = np.array(array, np.float32, order="C")
    known = {row.name(layout) for row in rows}
    prefixes = (names.prefix, names.prefix.replace(".", "/"))
    extra = [
        name for name in tensors if name not in known and not _BOOKKEEPING[layout].search(name)
    ]
    problems["not known"] = [
        f"{name} {list(tensors[name].shape)}" for name in extra if name.startswith(prefixes)
    ]
    if any(problems.values()):
        raise UserError(
            "the checkpoint is not the model that its configuration describes: "
            + "; ".join(f"{kind}: {listed(names)}" for kind, names in problems.items() if names)
        )
    return Converted(
        unflatten_dict(flat, sep="/"),
        tuple(PART_NAMES[part] for part in next(iter(names.classes.values())) if part not in found),
        tuple(sorted(set(extra))),
    )


def to_tensors(
    params: Mapping[str, Any], layout: Layout, config: EncoderConfig
) -> dict[str, np.ndarray]:
    """The inverse of `from_tensors`, without the copies of tied parameters.

    Raises:
      ValueError: a parameter is in no row of the table.
    """
    flat = {path: np.asarray(array) for path, array in flatten_dict(dict(params), sep="/").items()}
    tensors = {}
    for row in names_of(config).rows(config):
        if row.ours in flat:
            array = flat.pop(row.ours)
            tensors[row.name(layout)] = np.ascontiguousarray(
                array.T if layout in row.transposed else array
            )
    if flat:
        raise ValueError(f"parameters that no other implementation has: {sorted(flat)}")
    return tensors


def adam_from_tf1(
    tensors: Mapping[str, np.ndarray], config: EncoderConfig
) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Adam's first and second moments of a TF1 checkpoint, as trees, and the global step."""
    if "global_step" not in tensors:
        raise UserError(
            "the checkpoint has no global_step, so it holds no optimizer state, like the released "
            "checkpoints; leave out --optimizer-state"
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


def names_of(config: EncoderConfig) -> ForeignNames:
    """What others call the parameters of a model."""
    architecture = architecture_of(config)
    if architecture.names is None:
        raise UserError(f"transformers has no model of the architecture {architecture.name}")
    return architecture.names


def _modern_names(
    tensors: Mapping[str, np.ndarray], names: ForeignNames, known: Sequence[str]
) -> dict[str, np.ndarray]:
    """Today's names in the class with all heads, without the copies of tied parameters."""
    # In the class without heads, names have no prefix.
    bare = not any(name.startswith(names.prefix) for name in tensors)
    inner = {
        name.removeprefix(names.prefix).split(".")[0]
        for name in known
        if name.startswith(names.prefix)
    }
    modern = {}
    for name, tensor in tensors.items():
        for pattern, replacement in names.legacy:
            name = pattern.sub(replacement, name)
        if bare and name.split(".")[0] in inner:
            name = f"{names.prefix}{name}"
        modern[name] = tensor
    for copy, name in names.tied.items():
        if copy not in modern:
            continue
        tensor = modern.pop(copy)
        if not np.array_equal(modern.setdefault(name, tensor), tensor):
            raise UserError(
                f"{copy} differs from {name}; a model whose output is not tied to its embedding "
                "cannot be converted"
            )
    return modern


def listed(names: list[str]) -> str:
    """The first names of a list, for an error message."""
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + rest
