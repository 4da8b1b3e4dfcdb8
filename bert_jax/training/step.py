"""The train state, born sharded, and the jitted steps that every objective shares."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util
from jax.sharding import Mesh, use_abstract_mesh

from bert_jax.objectives.losses import Sum
from bert_jax.objectives.objective import Batch, Objective, evaluation_keys, training_keys
from bert_jax.parallel.sharding import batch_sharding, place, replicated, tree_sharding
from bert_jax.training.optimizer import Optimizer, frozen_mask

Metrics = dict[str, jax.Array]
Seed = int | jax.Array
EvalStep = Callable[[Any, Batch, int], dict[str, Sum]]


class TrainState(NamedTuple):
    """Everything that a step changes."""

    step: jax.Array  # int32 scalar, optimizer steps taken
    params: Any  # a plain nested dictionary
    opt_state: Any


TrainStep = Callable[[TrainState, Batch, Seed], tuple[TrainState, Metrics]]


def init_state(
    objective: Objective,
    optimizer: Optimizer,
    mesh: Mesh,
    seed: int,
    given: Mapping[str, np.ndarray] | None = None,
) -> TrainState:
    """A fresh state whose arrays are created sharded: none is ever whole on one device.

    Args:
      objective, optimizer, mesh: of the run.
      seed: of the parameters.
      given: whole parameters by path, such as `WarmStart.params`, that replace random ones; these
        are not even drawn. They get the dtype and the sharding of those that they replace.
    """
    shapes, shardings = abstract_state(objective, optimizer, mesh)
    targets = traverse_util.flatten_dict(shapes.params, sep="/")
    places = traverse_util.flatten_dict(shardings.params, sep="/")
    placed = {
        path: place(value, targets[path].update(sharding=places[path]))
        for path, value in (given or {}).items()
    }
    return _initializer(objective, optimizer, mesh)(jax.random.key(seed), given=placed)


@functools.lru_cache(maxsize=8)  # tracing a model is slow, and several callers need it
def abstract_state(
    objective: Objective, optimizer: Optimizer, mesh: Mesh
) -> tuple[TrainState, TrainState]:
    """Shapes and shardings of the state, without computing it."""

    def started(params: Any) -> TrainState:
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    boxed = jax.eval_shape(objective.init, jax.eval_shape(jax.random.key, 0))
    shapes = jax.eval_shape(started, nn.unbox(boxed))
    shardings = tree_sharding(jax.eval_shape(started, boxed), mesh)
    # The box of a frozen parameter gives a sharding even where there is no optimizer state.
    return shapes, jax.tree.map(
        lambda sharding, part: jax.tree.map(lambda _: sharding, part), shardings, shapes
    )


@functools.lru_cache(maxsize=1)
def _initializer(
    objective: Objective, optimizer: Optimizer, mesh: Mesh
) -> Callable[..., TrainState]:
    """Jitted, and cached so that runs with other seeds do not compile it again."""
    _, shardings = abstract_state(objective, optimizer, mesh)

    def init(key: jax.Array, given: Mapping[str, jax.Array] | None = None) -> TrainState:
        params = nn.unbox(objective.init(key))
        if given:
            paths = traverse_util.flatten_dict(params, sep="/")
            params = traverse_util.unflatten_dict(paths | dict(given), sep="/")
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    return jax.jit(init, out_shardings=shardings, donate_argnames="given")


@functools.lru_cache(maxsize=1)
def make_train_step(
    objective: Objective,
    optimizer: Optimizer,
    mesh: Mesh,
    *,
    accumulation: int = 1,
) -> TrainStep:
    """The jitted optimizer step; it donates the state that it gets, so use the one returned.

    The same arguments give the same step, so runs with other seeds do not compile it again.

    Args:
      objective, optimizer, mesh: of the run.
      accumulation: number of micro-batches whose gradients are added up. The losses are divided by
        the weights of the whole batch, so the result is that of one large batch (except for FGM,
        which takes a step for each micro-batch).

    Returns:
      A function (state, batch, seed) -> (new state, metrics). Randomness depends only on the seed,
      an integer from 0 to 2^31 - 1, and on the step. The metrics are float32 scalars computed
      before the update: `loss`, those of the objective, and `gradient_norm` before clipping.
    """
    _, shardings = abstract_state(objective, optimizer, mesh)

    def loss_and_sums(
        params: Any, batch: Batch, key: jax.Array, loss_weights: dict[str, jax.Array]
    ) -> tuple[jax.Array, dict[str, Sum]]:
        mask = frozen_mask(params, optimizer.frozen)
        # A constant needs no gradient, and adds nothing to the norm.
        params = jax.tree.map(lambda x, f: jax.lax.stop_gradient(x) if f else x, params, mask)
        sums = objective.sums(params, batch, training_keys(key))
        losses = (sums[name][0] / weight for name, weight in loss_weights.items())
        return sum(losses, start=jnp.float32(0)), sums

    gradient = jax.grad(loss_and_sums, has_aux=True)

    def accumulated(
        params: Any, batch: Batch, key: jax.Array, loss_weights: dict[str, jax.Array]
    ) -> tuple[Any, dict[str, Sum]]:
        # Rows are dealt round robin, so that each micro-batch stays spread over all devices.
        micro_batches = jax.tree.map(
            lambda x: x.reshape(-1, accumulation, *x.shape[1:]).swapaxes(0, 1), batch
        )
        keys = jax.random.split(key, accumulation)

        def add(carry: Any, inputs: tuple[Batch, jax.Array]) -> tuple[Any, None]:
            micro_batch, micro_key = inputs
            result = gradient(params, micro_batch, micro_key, loss_weights)
            return jax.tree.map(jnp.add, carry, result), None

        first = jax.tree.map(lambda x: x[0], (micro_batches, keys))
        shapes = jax.eval_shape(lambda inputs: gradient(params, *inputs, loss_weights), first)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.lax.scan(add, zeros, (micro_batches, keys))[0]

    def train_step(state: TrainState, batch: Batch, seed: Seed) -> tuple[TrainState, Metrics]:
        with use_abstract_mesh(mesh.abstract_mesh):
            key = jax.random.fold_in(jax.random.key(seed), state.step)
            loss_weights = objective.loss_weights(batch)
            compute = gradient if accumulation == 1 else accumulated
            gradients, sums = compute(state.params, batch, key, loss_weights)
            with jax.named_scope("optimizer"):
                updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
                params = optax.apply_updates(state.params, updates)
            metrics = {
                name: total / loss_weights.get(name, weight)
                for name, (total, weight) in sums.items()
            }
            loss = sum((metrics[name] for name in loss_weights), start=jnp.float32(0))
            metrics = {"loss": loss, **metrics, "gradient_norm": optax.tree.norm(gradients)}
            return TrainState(state.step + 1, params, opt_state), metrics

    return jax.jit(
        train_step,
        in_shardings=(shardings, batch_sharding(mesh), replicated(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )


def make_eval_step(objective: Objective, mesh: Mesh) -> EvalStep:
    """The jitted evaluation of a batch: (params, batch, its number) -> {metric: (sum, weight)}."""

    def eval_step(params: Any, batch: Batch, number: jax.Array) -> dict[str, Sum]:
        with use_abstract_mesh(mesh.abstract_mesh):
            return objective.sums(params, batch, evaluation_keys(number))

    return jax.jit(eval_step, out_shardings=replicated(mesh))
