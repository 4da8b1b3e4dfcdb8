"""Checkpoints by Orbax: asynchronous, atomic, with a retention policy."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from bert_jax.errors import UserError
from bert_jax.train import TrainState


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
      keep_best: keeps the one with the lowest evaluation loss as well.
    """

    def __init__(self, folder: Path, keep: int = 3, keep_best: bool = False):
        policies: list[Any] = [checkpoint_managers.LatestN(keep)]
        if keep_best:
            policies.append(
                checkpoint_managers.BestN(
                    get_metric_fn=lambda metrics: metrics["loss"],
                    reverse=True,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
                cleanup_tmp_directories=True,
                enable_async_checkpointing=True,
            ),
        )

    @property
    def latest_step(self) -> int | None:
        """Step of the last complete checkpoint, None before the first."""
        return self._manager.latest_step()

    def save(
        self,
        state: TrainState,
        cursor: list[int],
        config: dict[str, Any],
        evaluation_loss: float | None = None,
    ) -> None:
        """Copies the state to the host and writes it in the background.

        Args:
          state: its step names the checkpoint.
          cursor: where the data continues after that step.
          config: the resolved configuration, as JSON values.
          evaluation_loss: the loss of the evaluation at this very step, if there was one.
        """
        step = int(state.step)
        if step == self.latest_step:
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state._asdict()),
                data=ocp.args.JsonSave({"cursor": cursor}),
                config=ocp.args.JsonSave(config),
            ),
            metrics=None if evaluation_loss is None else {"loss": evaluation_loss},
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
        target = jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            shapes,
            shardings,
        )
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(target._asdict()), data=ocp.args.JsonRestore()
            ),
        )
        return Restored(TrainState(**restored["state"]), restored["data"]["cursor"])

    def wait(self) -> None:
        """Returns when everything asked for is on disk; raises what the background met."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then releases the background threads."""
        self._manager.close()


def load_params(work_dir: Path, step: int | None = None) -> tuple[Any, dict[str, Any], int]:
    """Parameters of a finished or running run, for inference.

    Args:
      work_dir: the run's folder, which holds `checkpoints/`.
      step: which checkpoint; the latest by default.

    Returns:
      (params as numpy arrays, the resolved configuration, step).

    Raises:
      UserError: there is no such checkpoint.
    """
    folder = work_dir / "checkpoints"
    steps = sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())
    if not steps:
        raise UserError(
            f"{work_dir} holds no checkpoint (no folder in {folder}); give the work folder of a run"
        )
    if step is None:
        step = steps[-1]
    if step not in steps:
        raise UserError(f"{work_dir} has no checkpoint of step {step}; it has {steps}")
    checkpoint = folder / str(step)
    config = json.loads((checkpoint / "config" / "metadata").read_text(encoding="utf-8"))
    with ocp.StandardCheckpointer() as checkpointer:
        tree = checkpointer.metadata(checkpoint / "state").item_metadata.tree
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        target = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), tree
        )
        state = checkpointer.restore(checkpoint.absolute() / "state", target)
    return state["params"], config, step
