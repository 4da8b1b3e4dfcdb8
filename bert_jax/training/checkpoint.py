"""Checkpoints by Orbax: asynchronous, atomic, with a retention policy."""

import json
import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore
from flax.traverse_util import flatten_dict
from jax.tree_util import keystr

from bert_jax.parallel.sharding import place
from bert_jax.training.optimizer import AdamState
from bert_jax.training.partial import completed, without
from bert_jax.training.saved_params import open_arrays, readable, steps_in
from bert_jax.training.step import TrainState

# What goes wrong in Orbax's threads reaches the caller as an exception; its own log repeats that.
logging.getLogger("absl").setLevel(logging.CRITICAL)


def _badness(metrics: dict[str, float]) -> float:
    """Orders checkpoints; those of different stages do not compare, so a later stage wins."""
    return metrics["badness"] - 1e9 * metrics["stage"]


class Restored(NamedTuple):
    """A restored checkpoint.

    Attributes:
      state: the train state, placed by its shardings.
      cursor: the position in the data at which training continues.
    """

    state: TrainState
    cursor: list[int]


class _Read:
    """An array that is being read, by this host's shards; `like` has its shape and sharding."""

    def __init__(self, array: tensorstore.TensorStore, like: jax.ShapeDtypeStruct):
        self._like = like
        self._places = like.sharding.addressable_devices_indices_map(like.shape)
        self._shards: dict[str, Any] = {}
        for index in self._places.values():  # several devices may have the same
            self._shards.setdefault(str(index), array[index].read())

    def result(self) -> jax.Array:
        shards = [
            jax.device_put(self._shards[str(index)].result(), device, may_alias=False)
            for device, index in self._places.items()
        ]
        return jax.make_array_from_single_device_arrays(
            self._like.shape, self._like.sharding, shards, dtype=self._like.dtype
        )


class Checkpoints:
    """The checkpoints of one run, a folder per step under `folder`.

    An interrupted save leaves a temporary folder that is never read and goes with the next save.

    Args:
      folder: made if it is not there.
      keep: number of latest checkpoints kept.
      keep_best: keeps the best by the evaluations of the latest stage as well.
      base: {path: array} of parameters that never change and are not saved, but put back into what
        is restored (see `partial.py`).
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
        """What writes, made when it is first needed."""
        import orbax.checkpoint as ocp  # takes long, and a continued run trains before it saves
        from orbax.checkpoint import checkpoint_managers

        policies: list[Any] = [checkpoint_managers.LatestN(self._keep)]
        if self._keep_best:
            policies.append(
                checkpoint_managers.BestN(
                    get_metric_fn=_badness,
                    reverse=True,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        return ocp.CheckpointManager(
            self._folder.absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
                # Only with this does Orbax write the metrics that a later process compares.
                best_fn=_badness if self._keep_best else None,
                best_mode="min",
                cleanup_tmp_directories=True,
                enable_async_checkpointing=True,
            ),
        )

    @property
    def latest_step(self) -> int | None:
        """Step of the last complete checkpoint, None before the first."""
        if "_manager" in vars(self):
            return self._manager.latest_step()
        return max(steps_in(self._folder), default=None)

    @property
    def best_step(self) -> int | None:
        """Step of the best of the checkpoints that are kept, None without evaluations."""
        return self._manager.best_step()

    def save(
        self,
        state: TrainState,
        cursor: list[int],
        config: dict[str, Any],
        evaluation: dict[str, float] | None = None,
    ) -> None:
        """Copies the state to the host and writes it in the background.

        Args:
          state: its step names the checkpoint.
          cursor: where the data continues after that step.
          config: the resolved configuration, as JSON values.
          evaluation: "badness", see `loop.Stage`, and "stage" of the evaluation at this very step,
            if there was one.
        """
        import orbax.checkpoint as ocp

        step = int(state.step)
        if step == self.latest_step:
            return
        state = state._replace(params=without(state.params, self._base))
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state._asdict()),
                data=ocp.args.JsonSave({"cursor": cursor}),
                config=ocp.args.JsonSave(config),
            ),
            metrics=evaluation,
        )

    def restore(self, shapes: TrainState, shardings: TrainState) -> Restored | None:
        """The last complete checkpoint, or None if there is none.

        Args:
          shapes: from `step.abstract_state`.
          shardings: likewise; they may differ from those it was saved with.
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
        remedy = "delete its folder, and the same command goes on from the one before"
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
                raise ValueError(f"{name} is {found.get(name)}, not {wanted.get(name)}")
            reads = [_Read(arrays[name], like) for name, like in likes.items()]
            state = jax.tree.unflatten(tree, [read.result() for read in reads])
            metadata = (checkpoint / "data" / "metadata").read_text(encoding="utf-8")
            cursor = json.loads(metadata)["cursor"]
        if self._base:
            targets = flatten_dict(whole.params, sep="/")
            base = {path: place(array, targets[path]) for path, array in self._base.items()}
            state = state._replace(params=completed(state.params, base))
        return Restored(state, cursor)

    def wait(self) -> None:
        """Returns when everything asked for is on disk; raises what the background met."""
        if "_manager" in vars(self):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then releases the background threads."""
        if manager := vars(self).pop("_manager", None):
            manager.close()


def save_params(
    work_dir: Path,
    params: Any,
    config: dict[str, Any],
    *,
    step: int = 0,
    adam: AdamState | None = None,
) -> None:
    """Writes parameters that no run of ours trained, in the layout that `saved_params` reads.

    Args:
      work_dir: an existing folder; gets `checkpoints/<step>`.
      params: nested dictionary of arrays.
      config: what `load_params` gives back, as JSON values; its "model" is from
        `registry.config_to_saved`.
      step: optimizer steps that they had.
      adam: moments to continue with.
    """
    checkpoints = Checkpoints(work_dir / "checkpoints")
    opt_state = () if adam is None else (adam,)
    checkpoints.save(TrainState(jnp.asarray(step, jnp.int32), params, opt_state), [0, 0, 0], config)
    checkpoints.wait()
    checkpoints.close()
