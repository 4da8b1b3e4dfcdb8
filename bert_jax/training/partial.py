"""Checkpoints of only what a run trained; the rest is in the model that it started from, its base.

The run's configuration names the base: {"folder", "step", "fingerprint"}. Only frozen parameters of
the encoder are left out, so whatever the checkpoint's encoder lacks is taken from the base.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from bert_jax.errors import UserError

Flat = Mapping[str, Any]  # arrays by their paths, names joined by "/"


def frozen_part(params: Flat, frozen: Sequence[str]) -> dict[str, Any]:
    """The parameters of a base that need not be saved again; `frozen` as in `OptimizerConfig`."""
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
    """The parameters of a checkpoint, completed from its base.

    Args:
      params: of the checkpoint.
      base: all parameters of the base, numpy arrays.
      expected: fingerprint of what the checkpoint lacks.
      folder: of the base, for the message.
    """
    saved = flatten_dict(params, sep="/")
    lacking = {
        path: array
        for path, array in flatten_dict(base, sep="/").items()
        if path.startswith("encoder/") and path not in saved
    }
    found = fingerprint(lacking)
    if found != expected:
        raise UserError(
            f"the parameters in {folder} are not those that this run was trained on top of "
            f"(fingerprint {found[:12]}, not {expected[:12]}); restore the original ones"
        )
    return completed(params, lacking)
