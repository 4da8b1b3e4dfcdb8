"""Checkpoints that hold what a run trained, and leave the rest to the model that it started from.

Such a run names its base in its configuration: {"folder", "step", "fingerprint"}. What is left out
are frozen parameters of the encoder, so whatever of the encoder a checkpoint lacks is the base's.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from bert_jax.errors import UserError

Flat = Mapping[str, Any]  # arrays by their paths, names joined by "/"


def frozen_part(params: Flat, frozen: Sequence[str]) -> dict[str, Any]:
    """The parameters of a base that need not be saved again.

    Args:
      params: of the base.
      frozen: as in `OptimizerConfig.frozen`.
    """
    prefixes = tuple(f"{path}/" for path in frozen)
    return {
        path: array
        for path, array in params.items()
        if path.startswith("encoder/") and f"{path}/".startswith(prefixes)
    }


def fingerprint(params: Flat) -> str:
    """SHA-256 of the names, shapes and float32 values of parameters."""
    digest = hashlib.sha256()
    for path, array in sorted(params.items()):
        array = np.ascontiguousarray(array, np.float32)
        digest.update(f"{path} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def without(params: Any, paths: Flat) -> Any:
    """The tree without some parameters."""
    if not paths:
        return params
    flat = flatten_dict(params, sep="/")
    return unflatten_dict({path: x for path, x in flat.items() if path not in paths}, sep="/")


def completed(params: Any, paths: Flat) -> Any:
    """The inverse of `without`."""
    if not paths:
        return params
    return unflatten_dict({**flatten_dict(params, sep="/"), **paths}, sep="/")


def completed_by(params: Any, base: Any, expected: str, folder: object) -> Any:
    """The parameters of a checkpoint with what it leaves to its base.

    Args:
      params: of the checkpoint.
      base: all parameters of the base, numpy arrays.
      expected: fingerprint of what is left to it.
      folder: of the base, for the message.

    Raises:
      UserError: the base has changed.
    """
    saved = flatten_dict(params, sep="/")
    found = flatten_dict(base, sep="/")
    paths = {path: x for path, x in found.items() if path.startswith("encoder/")}
    paths = {path: x for path, x in paths.items() if path not in saved}
    check_base(fingerprint(paths), expected, folder)
    return completed(params, paths)


def check_base(found: str, expected: str, folder: object) -> None:
    """Raises UserError where a base has another fingerprint than the one that was trained on."""
    if found != expected:
        raise UserError(
            f"the parameters in {folder} are not those that this run was trained on top of "
            f"(fingerprint {found[:12]}, not {expected[:12]}); bring back the ones that it was"
        )
