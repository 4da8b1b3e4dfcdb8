"""The device mesh and the one table that places every array on it.

Parameters carry *logical* axis names (`model.py`); `LOGICAL_AXES` says which mesh axis, if any,
each of them is split over. Everything else follows from the table.
"""

from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bert_jax.errors import UserError

# logical axis -> mesh axis, None where it is replicated
LOGICAL_AXES: tuple[tuple[str, str | None], ...] = (
    ("batch", "data"),
    ("vocab", None),
    ("position", None),
    ("embed", None),
    ("heads", None),
    ("mlp", None),
)


def make_mesh() -> Mesh:
    """A mesh with the single axis "data" over all devices."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


def check_batch_size(batch_size: int, mesh: Mesh, accumulation: int = 1) -> None:
    """Refuses a batch that does not divide evenly.

    Args:
      batch_size: sequences per optimizer step, over all devices.
      mesh: the device mesh.
      accumulation: number of micro-batches per step.

    Raises:
      UserError: `batch_size` is not a multiple of devices times `accumulation`.
    """
    devices = mesh.shape["data"]
    if batch_size % (devices * accumulation):
        raise UserError(
            f"batch_size {batch_size} is not divisible by {devices} device(s) x "
            f"{accumulation} accumulation step(s); choose a multiple of {devices * accumulation}"
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: its first dimension is split over the axis "data"."""
    return NamedSharding(mesh, PartitionSpec("data"))


def tree_sharding(abstract_tree: Any, mesh: Mesh) -> Any:
    """Shardings of a tree whose leaves may carry logical axis names.

    Args:
      abstract_tree: the result of `jax.eval_shape` on a function that returns flax's boxed arrays.
      mesh: the device mesh.

    Returns:
      The same tree, unboxed, with a `NamedSharding` for each array.
    """
    specs = nn.get_partition_spec(abstract_tree)
    return nn.logical_to_mesh_sharding(specs, mesh, LOGICAL_AXES)


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Moves this host's rows of a batch to its devices as one global array per key."""
    sharding = batch_sharding(mesh)
    return {
        key: jax.make_array_from_process_local_data(sharding, value) for key, value in batch.items()
    }
