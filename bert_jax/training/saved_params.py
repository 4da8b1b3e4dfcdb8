"""Checkpoints read, by TensorStore itself: Orbax, which writes them, takes long to import."""

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
    """Parameters of a finished or running run, for inference.

    Args:
      work_dir: the run's folder, which holds `checkpoints/`.
      step: which checkpoint; by default the one that the run's summary.json names as its result,
        else the latest.
      read_base: gives all parameters of the base that a configuration names (see `partial.py`);
        without it, checkpoints that need one are refused.

    Returns:
      (params as numpy arrays, the resolved configuration, step).

    Raises:
      UserError: there is no such checkpoint, or its base is not what it was.
    """
    checkpoint = _find(work_dir, step)
    with readable(checkpoint):
        config = json.loads((checkpoint / "config" / "metadata").read_text(encoding="utf-8"))
        params = _read_part(checkpoint, "params")
        base = config.get("base")
    if "encoder/embeddings/norm/layer_norm/scale" in flatten_dict(params, sep="/"):
        raise UserError(
            f"{checkpoint} is of an earlier version, whose LayerNorm parameters have other names; "
            "train or convert it again"
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
    """Adam's moments of a run, or of a converted checkpoint that was given some.

    Args:
      work_dir: as for `load_params`.
      step: likewise.

    Returns:
      Two trees like the parameters, of numpy arrays; None if the checkpoint has none.

    Raises:
      UserError: there is no such checkpoint.
    """
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
    """The steps of a run's complete checkpoints, in order; none where there is no run."""
    return steps_in(work_dir / "checkpoints")


def steps_in(folder: Path) -> list[int]:
    """The steps of the complete checkpoints in a folder, in order; others have a suffix."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())


def _find(work_dir: Path, step: int | None) -> Path:
    """The folder of one checkpoint, by default the run's result or else the latest."""
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
    """The step that a finished run names as its result."""
    try:
        return json.loads((work_dir / "summary.json").read_text(encoding="utf-8"))["step"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def readable(checkpoint: Path, remedy: str = "choose another by its step") -> Iterator[None]:
    """Turns what reading a damaged checkpoint raises into one line, which `remedy` ends."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"the checkpoint {checkpoint} cannot be read ({reason}); {remedy}"
        ) from None


def _read_part(checkpoint: Path, part: str) -> Any:
    """One member of a saved TrainState, "params" or "opt_state", as nested dictionaries.

    The arrays are NumPy's; the keys of sequences are their indices as text.
    """
    found = open_arrays(checkpoint, part)
    reads = {name: array.read() for name, array in found.items()}
    arrays = {name: np.asarray(read.result()) for name, read in reads.items()}
    return unflatten_dict(arrays, sep=".").get(part, {})


def open_arrays(checkpoint: Path, part: str = "") -> dict[str, tensorstore.TensorStore]:
    """The arrays of a checkpoint in Orbax's layout, none of them read yet.

    Args:
      checkpoint: its folder.
      part: member of the TrainState to look for; all by default.

    Returns:
      By their paths in the TrainState, such as "params.encoder.embeddings.norm.scale".
    """
    folder = checkpoint.absolute() / "state"
    metadata = json.loads((folder / "_METADATA").read_text(encoding="utf-8"))
    opened = {}
    for entry in metadata["tree_metadata"].values():
        keys = [key["key"] for key in entry["key_metadata"]]
        if part in ("", keys[0]) and not entry["value_metadata"]["skip_deserialize"]:
            name = ".".join(keys)
            spec = {
                "driver": "zarr3" if metadata["use_zarr3"] else "zarr",
                "kvstore": {
                    "driver": "ocdbt",
                    "base": f"file://{quote(str(folder))}/",
                    "path": f"{name}/",
                },
                # Else a part that is missing would be read as zeros.
                "fill_missing_data_reads": not metadata.get(
                    "store_array_data_equal_to_fill_value", False
                ),
            }
            opened[name] = tensorstore.open(spec, read=True)
    return {name: array.result() for name, array in opened.items()}
