"""The device mesh and the one table that places every array on it.

Parameters and activations carry *logical* axis names (`models/bert.py`). `LOGICAL_AXES` maps these
to the mesh axes over which they are split; everything else follows from that table.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from bert_jax.errors import UserError
from bert_jax.parallel.config import MeshConfig

# logical axis -> mesh axes; None: every device has all of it
LOGICAL_AXES: dict[str, str | tuple[str, ...] | None] = {
    "batch": ("data", "fsdp"),
    "length": None,
    "vocab": "tensor",
    "token_type": None,
    "position": None,
    "embed": "fsdp",  # the hidden axis of matrices
    "hidden": None,  # the hidden axis of vectors and activations: nothing to gain by splitting it
    "heads": "tensor",
    "mlp": "tensor",
    "classes": None,
}


AXES = tuple(field.name for field in dataclasses.fields(MeshConfig))


def mesh_axes(axis: str) -> tuple[str, ...]:
    """The mesh axes that a logical axis is split over."""
    axes = LOGICAL_AXES[axis]
    return (axes,) if isinstance(axes, str) else axes or ()


def make_mesh(
    config: MeshConfig | None = None, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """The mesh of some devices, by default all devices of all hosts.

    Devices of a host are neighbours in it, so that each host's rows of a batch are consecutive.
    """
    devices = jax.devices() if devices is None else devices
    ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
    config = config or MeshConfig()
    config.validate()
    sizes = dataclasses.asdict(config)
    takes_rest = -1 in sizes.values()
    given = math.prod(size for size in sizes.values() if size != -1)
    shown = " x ".join(f"{name}={size}" for name, size in sizes.items() if size != -1)
    if len(ordered) % given if takes_rest else len(ordered) != given:
        raise UserError(
            f"the mesh {shown} needs {'a multiple of ' if takes_rest else ''}{given} devices, but "
            f"there are {len(ordered)}; change mesh.{', mesh.'.join(sizes)} (-1 takes the rest)"
        )
    shape = [len(ordered) // given if size == -1 else size for size in sizes.values()]
    grid = np.array(ordered, dtype=object).reshape(shape)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def described(mesh: Mesh) -> str:
    """The mesh in words: "8 cpu devices: data 1 x fsdp 4 x tensor 2, 2 processes"."""
    devices = list(mesh.devices.flat)
    text = f"{len(devices)} {devices[0].device_kind} device"
    if len(devices) > 1:
        text += "s: " + " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    processes = len({device.process_index for device in devices})
    return text if processes == 1 else f"{text}, {processes} processes"


def batch_shards(mesh: Mesh) -> int:
    """Number of parts that a batch is split into."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def host_rows(mesh: Mesh, process: int | None = None) -> tuple[int, int]:
    """Which part of each batch a host has to read, by default this one.

    Returns:
      (index, count): the part `index` of `count` equal parts of the rows. Hosts whose devices
      differ on the axis "tensor" only have the same part.
    """
    process = jax.process_index() if process is None else process
    rows = mesh.devices.reshape(batch_shards(mesh), -1)
    mine = [
        number
        for number, devices in enumerate(rows)
        if any(device.process_index == process for device in devices)
    ]
    if len(rows) % len(mine) or mine[0] % len(mine):
        raise UserError(
            f"the mesh {dict(mesh.shape)} gives hosts unequal parts of a batch; make mesh.tensor a "
            "divisor or a multiple of the number of devices per host"
        )
    return mine[0] // len(mine), len(rows) // len(mine)


def check_batch_size(batch_size: int, mesh: Mesh, accumulation: int = 1) -> None:
    """Refuses a batch that its parts on the mesh, times the micro-batches, do not divide."""
    parts = batch_shards(mesh)
    if batch_size % (parts * accumulation):
        raise UserError(
            f"batch_size {batch_size} is not divisible by {parts} device(s) x "
            f"{accumulation} accumulation step(s); choose a multiple of {parts * accumulation}"
        )


def check_divides(mesh: Mesh, axis: str, size: int, name: str) -> None:
    """Refuses a dimension that its mesh axes do not divide; users know it by `name`."""
    for mesh_axis in mesh_axes(axis):
        if size % mesh.shape[mesh_axis]:
            raise UserError(
                f"mesh.{mesh_axis} {mesh.shape[mesh_axis]} does not divide {name} {size}; choose "
                f"a divisor of {size} for mesh.{mesh_axis}"
            )


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of an array of which every device has all."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch, by its first dimension."""
    return NamedSharding(mesh, PartitionSpec(LOGICAL_AXES["batch"]))


def tree_sharding(abstract_tree: Any, mesh: Mesh) -> Any:
    """Shardings of a tree whose leaves may carry logical axis names.

    Args:
      abstract_tree: the result of `jax.eval_shape` on a function that returns flax's boxed arrays.
      mesh: the device mesh.

    Returns:
      The same tree, unboxed, with a `NamedSharding` for each array.
    """

    def sharding(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        # A leaf without a shape is optax's mark of a frozen parameter, which has no state.
        if not isinstance(leaf, nn.LogicallyPartitioned) or not hasattr(leaf.value, "shape"):
            return replicated(mesh)
        name = "/".join(str(entry.key) for entry in path if hasattr(entry, "key"))
        axes = [axis or "hidden" for axis in leaf.names]
        for axis, size in zip(axes, leaf.value.shape, strict=True):
            check_divides(mesh, axis, size, f"the dimension {axis!r} of {name}, which is")
        return NamedSharding(mesh, PartitionSpec(*(LOGICAL_AXES[axis] for axis in axes)))

    return jax.tree_util.tree_map_with_path(
        sharding, abstract_tree, is_leaf=lambda leaf: isinstance(leaf, nn.LogicallyPartitioned)
    )


def bytes_per_device(shapes: Any, shardings: Any) -> int:
    """Bytes that each device holds of a tree of arrays, or of their `jax.ShapeDtypeStruct`."""
    leaves = zip(jax.tree.leaves(shapes), jax.tree.leaves(shardings), strict=True)
    return sum(
        leaf.dtype.itemsize * math.prod(sharding.shard_shape(leaf.shape))
        for leaf, sharding in leaves
    )


def constrain(x: jax.Array, *axes: str) -> jax.Array:
    """Keeps an activation split by its logical axes; without a mesh in use it does nothing."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(
        x, PartitionSpec(*(LOGICAL_AXES[axis] for axis in axes))
    )


def place(value: np.ndarray, like: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
    """A value of which every host has all, in the dtype and the sharding of another array."""
    value = np.asarray(value, like.dtype)
    # Unlike device_put, it does not compare the hosts' values over the network.
    return jax.make_array_from_callback(value.shape, like.sharding, value.__getitem__)


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Moves this host's rows of a batch to its devices; returns one global array per key."""
    sharding = batch_sharding(mesh)
    return {
        key: jax.make_array_from_process_local_data(sharding, value) for key, value in batch.items()
    }
