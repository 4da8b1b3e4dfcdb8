"""Checkpoints: Orbax writes them asynchronously and atomically; TensorStore reads them."""

import json
import logging
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore
from flax.traverse_util import flatten_dict
from jax.tree_util import keystr

from bert_jax.errors import UserError
from bert_jax.parallel.sharding import place
from bert_jax.training.optimizer import AdamState
from bert_jax.training.partial import completed, without
from bert_jax.training.saved_params import open_arrays, readable, steps_in
from bert_jax.training.step import TrainState

# Errors in Orbax's threads reach the caller as exceptions; its log would only repeat them.
logging.getLogger("absl").setLevel(logging.CRITICAL)


def _rank(metrics: dict[str, float]) -> float:
    """Orders checkpoints; different stages cannot be compared, so a later stage always wins."""
    return metrics["badness"] - 1e9 * metrics["stage"]


class Restored(NamedTuple):
    """A restored train state, and the position in the data at which training continues."""

    state: TrainState
    cursor: list[int]


def _read(array: tensorstore.TensorStore, like: jax.ShapeDtypeStruct) -> Callable[[], jax.Array]:
    """Starts to read this host's shards of an array; the function returned waits for them."""
    places = like.sharding.addressable_devices_indices_map(like.shape)
    reads: dict[str, Any] = {}
    for index in places.values():  # several devices may have the same
        reads.setdefault(str(index), array[index].read())

    def result() -> jax.Array:
        shards = [
            jax.device_put(reads[str(index)].result(), device, may_alias=False)
            for device, index in places.items()
        ]
        return jax.make_array_from_single_device_arrays(
            like.shape, like.sharding, shards, dtype=like.dtype
        )

    return result


class Checkpoints:
    """The checkpoints of one run, a folder per step under `folder`.

    An interrupted save leaves a temporary folder that is never read; the next save removes it.

    Args:
      folder: created if it does not exist.
      keep: number of latest checkpoints to keep.
      keep_best: also keeps the best one by the evaluations of the latest stage.
      base: {path: array} of parameters that never change: they are not saved, but put back into
        what is restored (see `partial.py`).
    """

    def __init__(
        self,
        folder: Path,
        keep: int = 3,
        keep_best: bool = False,
        base: Mapping[str, np.ndarray] | None = None,
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._keep, self._keep_best = keep, keep_best
        self._base = base or {}

    @cached_property
    def _manager(self) -> Any:
        """Orbax's manager, which writes; created when it is first needed."""
        import orbax.checkpoint as ocp  # slow to import, and a continued run trains before it saves
        from orbax.checkpoint import checkpoint_managers

        policies: list[Any] = [checkpoint_managers.LatestN(self._keep)]
        if self._keep_best:
            best = {"get_metric_fn": _rank, "reverse": True, "n": 1}
            policies.append(
                checkpoint_managers.BestN(**best, keep_checkpoints_without_metrics=False)
            )
        # Devices that hold the same array share the work of copying it, which takes a program for
        # each slice: hundreds of small arrays are copied sooner whole, while training waits.
        registry = ocp.type_handlers.create_type_handler_registry(
            (jax.Array, ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=2**20)),
            (np.ndarray, ocp.type_handlers.NumpyHandler()),
        )
        return ocp.CheckpointManager(
            self._folder.absolute(),
            item_handlers={
                "state": ocp.PyTreeCheckpointHandler(type_handler_registry=registry),
                "data": ocp.JsonCheckpointHandler(),
                "config": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
                # Without it Orbax does not write the metrics, which a later process compares.
                best_fn=_rank if self._keep_best else None,
                best_mode="min",
                cleanup_tmp_directories=True,
                enable_async_checkpointing=True,
            ),
        )

    @property
    def latest_step(self) -> int | None:
        """Step of the last complete checkpoint, None if there is none."""
        if "_manager" in vars(self):
            return self._manager.latest_step()
        return max(steps_in(self._folder), default=None)

    @property
    def best_step(self) -> int | None:
        """Step of the best checkpoint that is kept, None without evaluations."""
        return self._manager.best_step()

    def save(
        self,
        state: TrainState,
        cursor: list[int],
        config: dict[str, Any],
        evaluation: dict[str, float] | None = None,
    ) -> None:
        """Copies the state to the host and writes it in the background, under its step.

        Args:
          state: parameters, optimizer state and step, on the mesh.
          cursor: where the data continues.
          config: the resolved configuration, as JSON values.
          evaluation: of an evaluation at this step, its `Stage.rank` as "badness", and its
            "stage".
        """
        import orbax.checkpoint as ocp

        step = int(state.step)
        if step == self.latest_step:
            return
        state = state._replace(params=without(state.params, self._base))
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeSave(state._asdict()),
                data=ocp.args.JsonSave({"cursor": cursor}),
                config=ocp.args.JsonSave(config),
            ),
            metrics=evaluation,
        )

    def restore(self, shapes: TrainState, shardings: TrainState) -> Restored | None:
        """The last complete checkpoint, or None if there is none.

        Shapes and shardings are those of `step.abstract_state`; the state may have been saved with
        other shardings.
        """
        step = self.latest_step
        if step is None:
            return None
        whole = jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            shapes,
            shardings,
        )
        target = whole._replace(params=without(whole.params, self._base))
        checkpoint = self._folder / str(step)
        remedy = "delete its folder, and the same command continues from the previous one"
        with readable(checkpoint, remedy):
            arrays = open_arrays(checkpoint)
            found = {name: (array.shape, array.dtype.numpy_dtype) for name, array in arrays.items()}
            paths, tree = jax.tree_util.tree_flatten_with_path(target)
            likes = {keystr(path, simple=True, separator="."): like for path, like in paths}
            wanted = {name: (like.shape, like.dtype) for name, like in likes.items()}
            if differing := sorted(
                name for name in {*found, *wanted} if found.get(name) != wanted.get(name)
            ):
                name = differing[0]
                raise UserError(
                    f"the checkpoint {checkpoint} is of another state than the run's ({name} is "
                    f"{_shown(found.get(name))} in it and {_shown(wanted.get(name))} in the run); "
                    "continue with the version that wrote it, or start from it in another work "
                    "folder with --init-from"
                )
            reads = [_read(arrays[name], like) for name, like in likes.items()]
            state = jax.tree.unflatten(tree, [result() for result in reads])
            metadata = (checkpoint / "data" / "metadata").read_text(encoding="utf-8")
            cursor = json.loads(metadata)["cursor"]
        if self._base:
            targets = flatten_dict(whole.params, sep="/")
            base = {path: place(array, targets[path]) for path, array in self._base.items()}
            state = state._replace(params=completed(state.params, base))
        return Restored(state, cursor)

    def wait(self) -> None:
        """Returns when everything is on disk; raises the errors of the background."""
        if "_manager" in vars(self):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then releases the background threads."""
        if manager := vars(self).pop("_manager", None):
            manager.close()


def _shown(array: tuple[tuple[int, ...], Any] | None) -> str:
    """A shape and a dtype in words."""
    return f"{array[1]} {list(array[0])}" if array else "missing"


def save_params(
    work_dir: Path,
    params: Any,
    config: dict[str, Any],
    *,
    step: int = 0,
    adam: AdamState | None = None,
) -> None:
    """Writes parameters that were not trained here into `checkpoints/<step>` of a folder.

    Args:
      work_dir: an existing folder.
      params: nested dictionary of arrays.
      config: JSON values, which `load_params` returns; "model" is from `registry.config_to_saved`.
      step: number of optimizer steps that they have been trained for.
      adam: moments to continue with.
    """
    checkpoints = Checkpoints(work_dir / "checkpoints")
    opt_state = () if adam is None else (adam,)
    checkpoints.save(TrainState(jnp.asarray(step, jnp.int32), params, opt_state), [0, 0, 0], config)
    checkpoints.wait()
    checkpoints.close()
