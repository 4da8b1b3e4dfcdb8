"""Starting a run from the parameters of another."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from bert_jax.errors import UserError
from bert_jax.parallel.sharding import place
from bert_jax.training.optimizer import AdamState
from bert_jax.training.step import TrainState


class WarmStart(NamedTuple):
    """What of a checkpoint a run can use.

    Attributes:
      params: the parameters found, {path: array}, a path being the names joined by "/".
      fresh: parts of the run's model that the checkpoint lacks; they start fresh.
      unused: parts of the checkpoint that the run's model lacks.
    """

    params: dict[str, np.ndarray]
    fresh: list[str]
    unused: list[str]


def match_params(shapes: Any, loaded: Any, source: str) -> WarmStart:
    """Compares the parameters of a checkpoint with those of a run.

    Args:
      shapes: parameters of the run, as arrays or shapes.
      loaded: parameters of the checkpoint.
      source: the checkpoint's name for messages.

    Raises:
      UserError: a tensor has another shape, or the encoder is not complete.
    """
    wanted = traverse_util.flatten_dict(shapes, sep="/")
    found = traverse_util.flatten_dict(loaded, sep="/")
    misshapen = [
        f"{path} is {tuple(found[path].shape)}, the run's is {tuple(wanted[path].shape)}"
        for path in wanted
        if path in found and found[path].shape != wanted[path].shape
    ]
    if misshapen:
        raise UserError(
            f"{source} does not fit the run's model: {'; '.join(misshapen)}; leave out the "
            "--model options that change its sizes"
        )
    missing = [path for path in wanted if path not in found]
    in_encoder = [path for path in missing if path.startswith("encoder/")]
    extra = [path for path in found if path not in wanted]
    in_encoder += [path for path in extra if path.startswith("encoder/")]
    if in_encoder:
        raise UserError(
            f"{source} has another encoder than the run: {', '.join(in_encoder)}; leave out the "
            "--model options that change its sizes"
        )
    params = {path: value for path, value in found.items() if path in wanted}
    return WarmStart(params, _modules(missing), _modules(extra))


def _modules(paths: list[str]) -> list[str]:
    return list(dict.fromkeys(path.split("/")[0] for path in paths))


def check_adam(state: TrainState, adam: AdamState) -> None:
    """Raises UserError where `with_adam` could not continue the optimizer of a state.

    Args:
      state: of the run, arrays or shapes.
      adam: the moments to continue with.
    """
    nodes = jax.tree.leaves(state.opt_state, is_leaf=_is_adam)
    count = len(jax.tree.leaves(state.params))
    # Frozen parameters have no moments.
    if not any(_is_adam(node) and len(jax.tree.leaves(node.mu)) == count for node in nodes):
        raise UserError(
            "init_optimizer continues BERT's own Adam; it needs optimizer.name bert_adamw and "
            "nothing frozen"
        )
    wanted = traverse_util.flatten_dict(state.params, sep="/")
    for moments in adam:
        found = traverse_util.flatten_dict(moments or {}, sep="/")
        lacking = [
            path
            for path, leaf in wanted.items()
            if getattr(found.get(path), "shape", None) != leaf.shape
        ]
        if lacking:
            raise UserError(
                f"the checkpoint has no moments of Adam for {', '.join(lacking)}; leave out "
                "--init-optimizer"
            )


def with_adam(state: TrainState, adam: AdamState, step: int) -> TrainState:
    """The state with Adam's moments and the step of another run; `check_adam` says if it can be.

    Args:
      state: a state whose optimizer is "bert_adamw" without frozen parameters.
      adam: moments, trees that hold those of every parameter.
      step: optimizer steps that were taken.
    """
    mu, nu = (traverse_util.flatten_dict(moments, sep="/") for moments in adam)

    def replace(node: Any) -> Any:
        if isinstance(node, AdamState):
            return AdamState(_replaced(node.mu, mu), _replaced(node.nu, nu))
        # The schedule counts for itself; its count is the only integer in the optimizer's state.
        return jnp.full_like(node, step) if jnp.issubdtype(node.dtype, jnp.integer) else node

    opt_state = jax.tree.map(replace, state.opt_state, is_leaf=_is_adam)
    return TrainState(jnp.full_like(state.step, step), state.params, opt_state)


def _is_adam(node: Any) -> bool:
    return isinstance(node, AdamState)


def _replaced(tree: Any, values: dict[str, np.ndarray]) -> Any:
    flat = traverse_util.flatten_dict(tree, sep="/")
    for path in flat.keys() & values.keys():
        flat[path] = place(values[path], flat[path])
    return traverse_util.unflatten_dict(flat, sep="/")
