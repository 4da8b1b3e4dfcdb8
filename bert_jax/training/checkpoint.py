"""Checkpoints by Orbax: asynchronous, atomic, with a retention policy."""

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict
from orbax.checkpoint import checkpoint_managers

from bert_jax.errors import UserError
from bert_jax.parallel.sharding import place
from bert_jax.training.optimizer import AdamState
from bert_jax.training.partial import completed, completed_by, without
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


class Checkpoints:
    """The checkpoints of one run, a folder per step under `folder`.

    An interrupted save leaves a temporary folder that is never read and goes with the next start.

    Args:
      folder: made if it is not there.
      keep: number of latest checkpoints kept.
      keep_best: keeps the best by the evaluations of the latest stage as well.
      base: {path: array} of parameters that never change and are not saved, but put back into what
        is restored (see `base.py`).
    """

    def __init__(
        self,
        folder: Path,
        keep: int = 3,
        keep_best: bool = False,
        base: Mapping[str, np.ndarray] | None = None,
    ):
        self._base = base or {}
        policies: list[Any] = [checkpoint_managers.LatestN(keep)]
        if keep_best:
            policies.append(
                checkpoint_managers.BestN(
                    get_metric_fn=_badness,
                    reverse=True,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
                # Only with this does Orbax write the metrics that a later process compares.
                best_fn=_badness if keep_best else None,
                best_mode="min",
                cleanup_tmp_directories=True,
                enable_async_checkpointing=True,
            ),
        )

    @property
    def latest_step(self) -> int | None:
        """Step of the last complete checkpoint, None before the first."""
        return self._manager.latest_step()

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
          shapes: from `train.abstract_state`.
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
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(target._asdict()), data=ocp.args.JsonRestore()
            ),
        )
        state = TrainState(**restored["state"])
        if self._base:
            wanted = flatten_dict(whole.params, sep="/")
            base = {path: place(array, wanted[path]) for path, array in self._base.items()}
            state = state._replace(params=completed(state.params, base))
        return Restored(state, restored["data"]["cursor"])

    def wait(self) -> None:
        """Returns when everything asked for is on disk; raises what the background met."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then releases the background threads."""
        self._manager.close()


def save_params(
    work_dir: Path,
    params: Any,
    config: dict[str, Any],
    *,
    step: int = 0,
    adam: AdamState | None = None,
) -> None:
    """Writes parameters that no run of ours trained, in the layout that `load_params` reads.

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
      read_base: gives all parameters of the base that a configuration names (see `base.py`);
        without it, checkpoints that need one are refused.

    Returns:
      (params as numpy arrays, the resolved configuration, step).

    Raises:
      UserError: there is no such checkpoint, or its base is not what it was.
    """
    checkpoint = _find(work_dir, step)
    with _readable(checkpoint):
        config = json.loads((checkpoint / "config" / "metadata").read_text(encoding="utf-8"))
        params = _read_part(checkpoint, "params")
    if any(path.endswith("/norm/layer_norm/scale") for path in flatten_dict(params, sep="/")):
        raise UserError(
            f"{checkpoint} is of an earlier version, whose LayerNorm parameters have other names; "
            "train or convert it again"
        )
    if base := config.get("base"):
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
    with _readable(checkpoint):
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
    folder = work_dir / "checkpoints"
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
def _readable(checkpoint: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"the checkpoint {checkpoint} cannot be read ({reason}); choose another by its step"
        ) from None


def _read_part(checkpoint: Path, part: str) -> Any:
    """One member of a saved TrainState, "params" or "opt_state", as numpy arrays."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        metadata = checkpointer.metadata(checkpoint / "state").item_metadata
        if metadata is None:
            raise ValueError("its metadata is missing or damaged")
        tree = metadata.tree.get(part)
        if not jax.tree.leaves(tree):
            return tree
        arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        state = checkpointer.restore(
            checkpoint / "state",
            args=ocp.args.PyTreeRestore(
                item={part: tree}, restore_args={part: arrays}, partial_restore=True
            ),
        )
    return state[part]
