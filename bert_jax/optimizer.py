"""BERT's optimizer: uncorrected Adam, decoupled decay, clipping, warmup and linear decay."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from bert_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer and learning-rate schedule; defaults are those of the original.

    Attributes:
      learning_rate: the peak rate.
      warmup_steps: steps of linear warmup.
      weight_decay: decoupled decay of kernels and embeddings.
      beta_1: decay rate of the first moment.
      beta_2: decay rate of the second moment.
      epsilon: added outside the square root.
      max_gradient_norm: gradients are scaled down to this global norm.
    """

    learning_rate: float = 1e-4
    warmup_steps: int = 10_000
    weight_decay: float = 0.01
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-6
    max_gradient_norm: float = 1.0

    def validate(self, total_steps: int) -> None:
        """Raises UserError where a value is out of range or the warmup outlasts the run."""
        if not 0 <= self.warmup_steps <= total_steps:
            raise UserError(
                f"optimizer.warmup_steps is {self.warmup_steps}; it must be between 0 and the "
                f"run's {total_steps} steps"
            )
        for name in ("beta_1", "beta_2"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"optimizer.{name} is {getattr(self, name)}; it must be in [0, 1)")
        for name in ("learning_rate", "epsilon", "max_gradient_norm"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"optimizer.{name} is {getattr(self, name)}; it must be positive")
        if not 0 <= self.weight_decay < float("inf"):
            raise UserError(
                f"optimizer.weight_decay is {self.weight_decay}; it must not be negative"
            )


def learning_rate_schedule(config: OptimizerConfig, total_steps: int) -> optax.Schedule:
    """Linear warmup, then linear decay to 0 counted from step 0 (the original's `optimization.py`).

    At the end of the warmup the rate therefore steps down by the share warmup / total:

    >>> schedule = learning_rate_schedule(OptimizerConfig(1.0, warmup_steps=10), 100)
    >>> [round(float(schedule(step)), 3) for step in (0, 5, 9, 10, 50, 100)]
    [0.0, 0.5, 0.9, 0.9, 0.5, 0.0]
    """

    def schedule(step: Any) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        warmup = step / max(config.warmup_steps, 1)
        decay = jnp.maximum(1.0 - step / total_steps, 0.0)
        return config.learning_rate * jnp.where(step < config.warmup_steps, warmup, decay)

    return schedule


class AdamState(NamedTuple):
    """Moments of Adam, each a tree like the parameters."""

    mu: Any
    nu: Any


def scale_by_uncorrected_adam(
    beta_1: float, beta_2: float, epsilon: float
) -> optax.GradientTransformation:
    r"""Adam's update without bias correction, as in the original's `AdamWeightDecayOptimizer`.

    .. math:: m \leftarrow \beta_1 m + (1-\beta_1) g,\quad v \leftarrow \beta_2 v + (1-\beta_2) g^2,
              \quad u = m / (\sqrt v + \epsilon)

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
    """True for the parameters that decay: all kernels and embeddings, no bias and no LayerNorm."""

    def decays(path: tuple[Any, ...], _: Any) -> bool:
        # The last key of a boxed parameter is the box's own.
        keys = [entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey)]
        return keys[-1] not in ("bias", "scale")

    return jax.tree_util.tree_map_with_path(decays, params)


def make_optimizer(config: OptimizerConfig, total_steps: int) -> optax.GradientTransformation:
    """Clip, Adam, decay, schedule: p -= lr (m / (sqrt(v) + eps) + decay p).

    Args:
      config: its settings.
      total_steps: optimizer steps of the whole run, over all phases.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.max_gradient_norm),
        scale_by_uncorrected_adam(config.beta_1, config.beta_2, config.epsilon),
        optax.add_decayed_weights(config.weight_decay, mask=decay_mask),
        optax.scale_by_learning_rate(learning_rate_schedule(config, total_steps)),
    )
