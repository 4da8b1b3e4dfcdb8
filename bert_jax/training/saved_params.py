"""Reads checkpoints with TensorStore: Orbax, which writes them, is slow to import."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import tensorstore
from flax.traverse_util import flatten_dict, unflatten_dict

from bert_jax.errors import UserError
from bert_jax.training.optimizer import AdamState
from bert_jax.training.partial import completed_by


def load_params(
    work_dir: Path,
    step: int | None = None,
    read_base: Callable[[Mapping[str, Any]], Any] | None = None,
) -> tuple[Any, dict[str, Any], int]:
    """Parameters of a run, as numpy arrays, with its resolved configuration and their step.

    Args:
      work_dir: the run's folder, which holds `checkpoints/`.
      step: which checkpoint; by default the one that summary.json names as the run's result, else
        the latest.
      read_base: returns all parameters of the base that a configuration names (see `partial.py`);
        without it, checkpoints that need a base are refused.
    """
    checkpoint = _find(work_dir, step)
    with readable(checkpoint):
        config = json.loads((checkpoint / "config" / "metadata").read_text(encoding="utf-8"))
        params = _read_part(checkpoint, "params")
        base = config.get("base")
    if "encoder/embeddings/norm/layer_norm/scale" in flatten_dict(params, sep="/"):
        raise UserError(
            f"{checkpoint} was written by an earlier version, which named LayerNorm parameters "
            "differently; train or convert it again"
        )
    if base:
        if read_base is None:
            raise UserError(
                f"{work_dir} holds only what was trained on top of {base['folder']}; make a whole "
                f"checkpoint of it: python run_convert.py merge --checkpoint {work_dir} "
                "--output DIR"
            )
        params = completed_by(params, read_base(base), base["fingerprint"], base["folder"])
    return params, config, int(checkpoint.name)


def load_adam(work_dir: Path, step: int | None = None) -> AdamState | None:
    """Adam's moments in a checkpoint, as numpy arrays, or None; arguments as of `load_params`."""
    checkpoint = _find(work_dir, step)
    with readable(checkpoint):
        moments = _moments(_read_part(checkpoint, "opt_state"))
    return AdamState(moments["mu"], moments["nu"]) if moments else None


def _moments(tree: Any) -> dict[str, Any] | None:
    """The first dictionary with "mu" and "nu" in nested dictionaries and sequences."""
    if isinstance(tree, dict) and {"mu", "nu"} <= tree.keys():
        return tree
    children = tree.values() if isinstance(tree, dict) else tree
    if not isinstance(tree, (dict, list, tuple)):
        return None
    return next((found for child in children if (found := _moments(child))), None)


def saved_steps(work_dir: Path) -> list[int]:
    """The steps of a run's complete checkpoints, in order; empty if there is no run."""
    return steps_in(work_dir / "checkpoints")


def steps_in(folder: Path) -> list[int]:
    """The steps of the complete checkpoints in a folder, in order; others have a suffix."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())


def _find(work_dir: Path, step: int | None) -> Path:
    """The folder of one checkpoint, by default that of the run's result or else the latest."""
    folder = work_dir / "checkpoints"
    steps = saved_steps(work_dir)
    if not steps:
        raise UserError(
            f"{work_dir} holds no checkpoint (no folder in {folder}); give the work folder of a run"
        )
    if step is None:
        result = _result(work_dir)
        step = result if result in steps else steps[-1]
    if step not in steps:
        raise UserError(f"{work_dir} has no checkpoint of step {step}; it has {steps}")
    return folder.absolute() / str(step)


def _result(work_dir: Path) -> int | None:
    """The step that the summary of a finished run names as its result."""
    try:
        return json.loads((work_dir / "summary.json").read_text(encoding="utf-8"))["step"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def readable(checkpoint: Path, remedy: str = "choose another by its step") -> Iterator[None]:
    """Turns the errors of a damaged checkpoint into one line that ends with the remedy."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"the checkpoint {checkpoint} cannot be read ({reason}); {remedy}"
        ) from None


def _read_part(checkpoint: Path, part: str) -> Any:
    """The "params" or "opt_state" of a saved TrainState, in nested dictionaries of numpy arrays.

    The keys of sequences are their indices as text.
    """
    found = open_arrays(checkpoint, part)
    reads = {name: array.read() for name, array in found.items()}
    arrays = {name: np.asarray(read.result()) for name, read in reads.items()}
    return unflatten_dict(arrays, sep=".").get(part, {})


def open_arrays(checkpoint: Path, part: str = "") -> dict[str, tensorstore.TensorStore]:
    """The arrays of a checkpoint in Orbax's layout, opened but not read.

    `part` is a member of the TrainState, by default all. The names are paths in the TrainState,
    such as "params.encoder.embeddings.norm.scale".
    """
    folder = checkpoint.absolute() / "state"
    metadata = json.loads((folder / "_METADATA").read_text(encoding="utf-8"))
    opened = {}
    for entry in metadata["tree_metadata"].values():
        keys = [key["key"] for key in entry["key_metadata"]]
        if part in ("", keys[0]) and not entry["value_metadata"]["skip_deserialize"]:
            name = ".".join(keys)
            base = f"file://{quote(str(folder))}/"
            zeros_are_stored = metadata.get("store_array_data_equal_to_fill_value", False)
            spec = {
                "driver": "zarr3" if metadata["use_zarr3"] else "zarr",
                "kvstore": {"driver": "ocdbt", "base": base, "path": f"{name}/"},
                # Otherwise a missing part would be read as zeros.
                "fill_missing_data_reads": not zeros_are_stored,
            }
            opened[name] = tensorstore.open(spec, read=True)
    return {name: array.result() for name, array in opened.items()}
