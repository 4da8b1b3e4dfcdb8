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
    """Everything that a step changes.

    Attributes:
      step: int32 scalar, optimizer steps taken.
      params: the parameters, a plain nested dictionary.
      opt_state: the optimizer's state.
    """

    step: jax.Array
    params: Any
    opt_state: Any


TrainStep = Callable[[TrainState, Batch, Seed], tuple[TrainState, Metrics]]


def init_state(
    objective: Objective,
    optimizer: Optimizer,
    mesh: Mesh,
    seed: int,
    given: Mapping[str, np.ndarray] | None = None,
) -> TrainState:
    """A fresh state, every array created where the mesh wants it: none is ever whole on one device.

    Args:
      objective: what is trained.
      optimizer: from `optimizer.make_optimizer`.
      mesh: the device mesh.
      seed: of the parameters.
      given: parameters by path, such as `WarmStart.params`, instead of random ones; every host has
        them whole. They get the dtype and the sharding of those that they replace, which are not
        even drawn.
    """
    shapes, shardings = abstract_state(objective, optimizer, mesh)
    targets = traverse_util.flatten_dict(shapes.params, sep="/")
    places = traverse_util.flatten_dict(shardings.params, sep="/")
    placed = {
        path: place(value, targets[path].update(sharding=places[path]))
        for path, value in (given or {}).items()
    }
    init = jax.jit(
        _initializer(objective, optimizer), out_shardings=shardings, donate_argnames="given"
    )
    return init(jax.random.key(seed), given=placed)


@functools.lru_cache(maxsize=8)  # tracing a model takes a while, and several ask for it
def abstract_state(
    objective: Objective, optimizer: Optimizer, mesh: Mesh
) -> tuple[TrainState, TrainState]:
    """Shapes and shardings of the state, without computing it.

    The model is traced once, which takes long, and not again for the same objects.
    """

    def started(params: Any) -> TrainState:
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    boxed = jax.eval_shape(objective.init, jax.eval_shape(jax.random.key, 0))
    shapes = jax.eval_shape(started, nn.unbox(boxed))
    shardings = tree_sharding(jax.eval_shape(started, boxed), mesh)
    # Where a frozen parameter has no optimizer state, its box still gave a sharding.
    return shapes, jax.tree.map(
        lambda sharding, part: jax.tree.map(lambda _: sharding, part), shardings, shapes
    )


def _initializer(objective: Objective, optimizer: Optimizer) -> Callable[..., TrainState]:
    def init(key: jax.Array, given: Mapping[str, jax.Array] | None = None) -> TrainState:
        params = nn.unbox(objective.init(key))
        if given:
            paths = traverse_util.flatten_dict(params, sep="/")
            params = traverse_util.unflatten_dict(paths | dict(given), sep="/")
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    return init


def _metrics(sums: dict[str, Sum], loss_weights: dict[str, jax.Array]) -> Metrics:
    metrics = {
        name: total / loss_weights.get(name, weight) for name, (total, weight) in sums.items()
    }
    loss = sum((metrics[name] for name in loss_weights), start=jnp.float32(0))
    return {"loss": loss, **metrics}


@functools.lru_cache(maxsize=1)
def make_train_step(
    objective: Objective,
    optimizer: Optimizer,
    mesh: Mesh,
    *,
    accumulation: int = 1,
) -> TrainStep:
    """The jitted optimizer step; the state that it is given is donated, so use the one returned.

    Asked again for the same objects it gives the same step, so runs with other seeds do not compile
    it again.

    Args:
      objective: what is trained.
      optimizer: from `optimizer.make_optimizer`.
      mesh: the device mesh.
      accumulation: number of micro-batches whose gradients are added up. The losses are divided by
        the weights of the whole batch, so the result is that of one large batch (but for FGM, whose
        step is one of each micro-batch).

    Returns:
      A function (state, batch, seed) -> (new state, metrics). What is random depends on the seed,
      an integer within 0 and 2^31 - 1, and on the step alone. The metrics are float32 scalars
      computed before the update: `loss`, those of the objective, and `gradient_norm` before
      clipping.
    """
    _, shardings = abstract_state(objective, optimizer, mesh)

    def loss_and_sums(
        params: Any, batch: Batch, key: jax.Array, loss_weights: dict[str, jax.Array]
    ) -> tuple[jax.Array, dict[str, Sum]]:
        mask = frozen_mask(params, optimizer.frozen)
        # A constant has no gradient to compute, and none that adds to the norm.
        params = jax.tree.map(lambda x, f: jax.lax.stop_gradient(x) if f else x, params, mask)
        sums = objective.sums(params, batch, training_keys(key))
        loss = sum(
            (sums[name][0] / weight for name, weight in loss_weights.items()),
            start=jnp.float32(0),
        )
        return loss, sums

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
            return step_on_mesh(state, batch, seed)

    def step_on_mesh(state: TrainState, batch: Batch, seed: Seed) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        loss_weights = objective.loss_weights(batch)
        compute = gradient if accumulation == 1 else accumulated
        gradients, sums = compute(state.params, batch, key, loss_weights)
        with jax.named_scope("optimizer"):
            updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
        metrics = _metrics(sums, loss_weights) | {"gradient_norm": optax.tree.norm(gradients)}
        return TrainState(state.step + 1, params, opt_state), metrics

    return jax.jit(
        train_step,
        in_shardings=(shardings, batch_sharding(mesh), replicated(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )


def make_eval_step(objective: Objective, mesh: Mesh) -> EvalStep:
    """The jitted evaluation of one batch: (params, batch, its number) -> {metric: (sum, weight)}.

    What an objective samples depends on the number alone.
    """

    def eval_step(params: Any, batch: Batch, number: jax.Array) -> dict[str, Sum]:
        with use_abstract_mesh(mesh.abstract_mesh):
            return objective.sums(params, batch, evaluation_keys(number))

    return jax.jit(eval_step, out_shardings=replicated(mesh))
