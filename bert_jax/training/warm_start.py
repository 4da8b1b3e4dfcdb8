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
    """What a run can use of a checkpoint."""

    params: dict[str, np.ndarray]  # by path, names joined by "/"
    fresh: list[str]  # parts of the run's model that the checkpoint lacks
    unused: list[str]  # parts of the checkpoint that the run's model lacks


def match_params(shapes: Any, loaded: Any, source: str) -> WarmStart:
    """Compares the parameters of a checkpoint with those of a run, given as arrays or shapes.

    `source` is the checkpoint's name in messages.
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
    extra = [path for path in found if path not in wanted]
    if in_encoder := [path for path in missing + extra if path.startswith("encoder/")]:
        raise UserError(
            f"{source} has another encoder than the run: {', '.join(in_encoder)}; leave out the "
            "--model options that change its sizes"
        )
    params = {path: value for path, value in found.items() if path in wanted}
    return WarmStart(params, _modules(missing), _modules(extra))


def _modules(paths: list[str]) -> list[str]:
    return list(dict.fromkeys(path.split("/")[0] for path in paths))


def check_adam(state: TrainState, adam: AdamState) -> None:
    """Refuses moments with which `with_adam` cannot continue a state, of arrays or shapes."""
    nodes = jax.tree.leaves(state.opt_state, is_leaf=_is_adam)
    count = len(jax.tree.leaves(state.params))  # frozen ones have no moments
    if not any(_is_adam(node) and len(jax.tree.leaves(node.mu)) == count for node in nodes):
        raise UserError(
            "--init-optimizer continues BERT's own Adam; it needs optimizer.name bert_adamw and "
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
    """A state that `check_adam` accepts, with the moments and the step of another run."""
    mu, nu = (traverse_util.flatten_dict(moments, sep="/") for moments in adam)

    def replace(node: Any) -> Any:
        if _is_adam(node):
            return AdamState(_replaced(node.mu, mu), _replaced(node.nu, nu))
        # The only integer in the optimizer's state is the schedule's own count of the steps.
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
