"""Optimizers (BERT's AdamW, optax's AdamW, LAMB), learning-rate schedules, frozen parameters."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bert_jax.errors import UserError
from bert_jax.models.adapters import PART
from bert_jax.training.config import OptimizerConfig


def learning_rate_schedule(config: OptimizerConfig, total_steps: int) -> optax.Schedule:
    """Linear warmup from 0, then decay to the share `end_proportion` of the peak at `total_steps`.

    With w warmup steps of T, step t after the warmup has the peak rate times

    - "linear": (1 - t/T) ** decay_power, counted from step 0 as in the original's
      `optimization.py`, so that the rate drops by the share w/T at the end of the warmup;
    - "polynomial": (1 - p) ** decay_power with p = (t - w) / (T - w), without that drop;
    - "cosine": (1 + cos(pi p)) / 2 (arXiv:1608.03983);
    - "inverse_sqrt": sqrt(w / t) (arXiv:1706.03762, section 5.3), with w at least 1;
    - "constant": 1.

    The first three are scaled to end at `end_proportion` instead of 0; the last two never end.

    >>> schedule = learning_rate_schedule(OptimizerConfig(learning_rate=1.0, warmup_steps=10), 100)
    >>> [round(float(schedule(step)), 3) for step in (0, 5, 9, 10, 50, 100)]
    [0.0, 0.5, 0.9, 0.9, 0.5, 0.0]
    """
    peak, warmup_steps = config.learning_rate, config.warmup_steps
    assert peak is not None
    if warmup_steps is None:
        assert config.warmup_proportion is not None
        warmup_steps = round(config.warmup_proportion * total_steps)

    def decay(xp: Any, step: Any) -> Any:
        if config.schedule == "constant":
            return xp.ones_like(step)
        if config.schedule == "inverse_sqrt":
            return xp.sqrt(max(warmup_steps, 1) / xp.maximum(step, max(warmup_steps, 1)))
        if config.schedule == "linear":
            progress = step / total_steps
        else:
            progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
        progress = xp.clip(progress, 0.0, 1.0)
        if config.schedule == "cosine":
            remaining = 0.5 * (1.0 + xp.cos(xp.pi * progress))
        else:
            remaining = (1.0 - progress) ** config.decay_power
        return config.end_proportion + (1.0 - config.end_proportion) * remaining

    def schedule(step: Any) -> Any:
        # For a log NumPy is as good, and jax would compile each operation.
        xp = jnp if isinstance(step, jax.Array) else np
        step = xp.asarray(step, xp.float32)
        warmup = step / max(warmup_steps, 1)
        return peak * xp.where(step < warmup_steps, warmup, decay(xp, step))

    return schedule


def clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """Gradients times max_norm / max(norm, max_norm), the formula of `tf.clip_by_global_norm`.

    optax's own divides every tensor by the norm. On a CPU, XLA writes the quotients to memory, but
    computes products where Adam reads them.
    """

    def update(gradients: Any, _: Any) -> Any:
        scale = max_norm / jnp.maximum(optax.tree.norm(gradients), max_norm)
        return jax.tree.map(lambda gradient: gradient * scale, gradients)

    return optax.stateless(update)


class AdamState(NamedTuple):
    """Moments of Adam, each a tree like the parameters."""

    mu: Any
    nu: Any


def scale_by_uncorrected_adam(
    beta_1: float, beta_2: float, epsilon: float
) -> optax.GradientTransformation:
    """Adam without bias correction, as in the original's `AdamWeightDecayOptimizer`.

    m <- beta_1 m + (1 - beta_1) g, v <- beta_2 v + (1 - beta_2) g^2, update m / (sqrt(v) + epsilon)

    optax's own Adam always corrects the bias of the moments.
    """

    def init(params: Any) -> AdamState:
        return AdamState(jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params))

    def update(gradients: Any, state: AdamState, params: Any = None) -> tuple[Any, AdamState]:
        del params
        mu = jax.tree.map(lambda m, g: beta_1 * m + (1 - beta_1) * g, state.mu, gradients)
        nu = jax.tree.map(lambda v, g: beta_2 * v + (1 - beta_2) * g * g, state.nu, gradients)
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + epsilon), mu, nu)
        return updates, AdamState(mu, nu)

    return optax.GradientTransformation(init, update)


def decay_mask(params: Any) -> Any:
    """True for the parameters that decay: all but biases and those of LayerNorm."""

    def decays(path: tuple[Any, ...], _: Any) -> bool:
        return _path(path).split("/")[-1] not in ("bias", "scale")

    return jax.tree_util.tree_map_with_path(decays, params)


def frozen_mask(params: Any, frozen: Sequence[str]) -> Any:
    """True for the parameters whose path is, or is below, one of `frozen`."""
    paths = [_path(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for prefix in frozen:
        if not any(_begins_with(path, prefix) for path in paths):
            parts = prefix.split("/")
            known = sorted({"/".join(path.split("/")[: len(parts)]) for path in paths})
            raise UserError(
                f"optimizer.frozen names {prefix!r}, but no parameter's path begins with that; "
                f"there are: {', '.join(known)}"
            )
    mask = jax.tree_util.tree_map_with_path(
        lambda path, _: any(_begins_with(_path(path), prefix) for prefix in frozen), params
    )
    if all(jax.tree.leaves(mask)):
        raise UserError(f"optimizer.frozen {' '.join(frozen)} leaves no parameter to train")
    return mask


def _path(path: tuple[Any, ...]) -> str:
    # The last key of a boxed parameter is the box's own.
    return "/".join(entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey))


def _begins_with(path: str, prefix: str) -> bool:
    return f"{path}/".startswith(f"{prefix}/")


def _scale_by_layer(layer_decay: float, blocks: Sequence[str]) -> optax.GradientTransformation:
    """Updates times layer_decay ** (1 + number of blocks above); arXiv:1801.06146, section 3.2."""

    def scaled(path: tuple[Any, ...], update: jax.Array) -> jax.Array:
        name = _path(path).removeprefix(f"{PART}/")
        above = (len(blocks) - i for i, block in enumerate(blocks) if _begins_with(name, block))
        return update * layer_decay ** next(above, 0)

    return optax.stateless(lambda updates, _: jax.tree_util.tree_map_with_path(scaled, updates))


class Optimizer(NamedTuple):
    """An `optax.GradientTransformation` with its schedule, and what it does not train."""

    init: optax.TransformInitFn
    update: optax.TransformUpdateFn
    learning_rate: optax.Schedule
    frozen: tuple[str, ...]  # as in `OptimizerConfig`; the train step computes no gradient of these


def make_optimizer(
    config: OptimizerConfig, learning_rate: optax.Schedule, blocks: Sequence[str] = ()
) -> Optimizer:
    """Clip, Adam, decay, trust ratio (LAMB only), schedule, layer-wise decay.

    By default it is the original's p -= lr (m / (sqrt(v) + eps) + decay p). LAMB scales the updates
    of all tensors but biases and LayerNorm to the tensor's own norm, as its authors' code does, and
    corrects the bias of the moments, as in its Algorithm 2. Frozen parameters have no state.
    `layer_decay` below 1 needs the model's `Architecture.blocks`.
    """
    if config.name == "bert_adamw":
        adam = scale_by_uncorrected_adam(config.beta_1, config.beta_2, config.epsilon)
    else:
        adam = optax.scale_by_adam(config.beta_1, config.beta_2, config.epsilon)
    steps = [
        clip_by_global_norm(config.max_gradient_norm),
        adam,
        optax.add_decayed_weights(config.weight_decay, mask=decay_mask),
    ]
    if config.name == "lamb":
        steps.append(optax.masked(optax.scale_by_trust_ratio(), decay_mask))
    steps.append(optax.scale_by_learning_rate(learning_rate))
    chain = optax.chain(*steps)
    if config.frozen:

        def labels(params: Any) -> Any:
            mask = frozen_mask(params, config.frozen)
            return jax.tree.map(lambda frozen: "frozen" if frozen else "trained", mask)

        chain = optax.partition({"trained": chain, "frozen": optax.set_to_zero()}, labels)
    if config.layer_decay < 1:
        if not blocks:
            raise ValueError(f"layer_decay is {config.layer_decay}, but no blocks are given")
        chain = optax.chain(chain, _scale_by_layer(config.layer_decay, blocks))
    return Optimizer(chain.init, chain.update, learning_rate, config.frozen)
