"""The optimizer against the original's update rule in plain NumPy."""

import jax
import numpy as np
import optax
import pytest

from bert_jax.errors import UserError
from bert_jax.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer


def numpy_steps(params, gradients, config, total_steps):
    """The original's `AdamWeightDecayOptimizer` and clipping in float64, step by step."""
    params = {name: value.astype(np.float64) for name, value in params.items()}
    m = {name: np.zeros_like(value) for name, value in params.items()}
    v = {name: np.zeros_like(value) for name, value in params.items()}
    for step, gradient in enumerate(gradients):
        norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradient.values()))
        scale = config.max_gradient_norm / max(norm, config.max_gradient_norm)
        if step < config.warmup_steps:
            rate = config.learning_rate * step / config.warmup_steps
        else:
            rate = config.learning_rate * (1 - step / total_steps)
        for name in params:
            g = gradient[name] * scale
            m[name] = config.beta_1 * m[name] + (1 - config.beta_1) * g
            v[name] = config.beta_2 * v[name] + (1 - config.beta_2) * g**2
            update = m[name] / (np.sqrt(v[name]) + config.epsilon)
            if name == "kernel":
                update = update + config.weight_decay * params[name]
            params[name] = params[name] - rate * update
    return params


@pytest.mark.parametrize("size", [0.01, 10.0])  # below and above the clipping norm
def test_updates_equal_the_original_rule(size):
    config = OptimizerConfig(learning_rate=0.1, warmup_steps=3, weight_decay=0.1)
    random = np.random.default_rng(0)
    shapes = {"kernel": (4, 3), "bias": (3,), "scale": (3,)}
    params = {n: random.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    gradients = [
        {n: random.normal(0, size, s).astype(np.float32) for n, s in shapes.items()}
        for _ in range(8)
    ]
    optimizer = make_optimizer(config, total_steps=10)
    state, found = optimizer.init(params), params
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, found)
        found = optax.apply_updates(found, updates)
    expected = numpy_steps(params, gradients, config, 10)
    for name in shapes:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)
        assert np.abs(found[name] - params[name]).max() > 1e-2


def test_decay_spares_biases_and_layer_norm(objective):
    """Every kernel and embedding of the real model decays, and nothing else."""
    params = jax.tree.map(np.ones_like, _plain(objective))
    optimizer = make_optimizer(OptimizerConfig(learning_rate=1.0, warmup_steps=0), 10)
    zeros = jax.tree.map(np.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    for path, update in jax.tree_util.tree_leaves_with_path(updates):
        name = path[-1].key
        expected = 0.0 if name in ("bias", "scale") else -0.01
        np.testing.assert_allclose(update, expected, rtol=1e-6, err_msg=str(path))


def _plain(objective):
    from flax import linen as nn

    return nn.unbox(objective.init(jax.random.key(0)))


def test_schedule_warms_up_and_decays_from_step_zero():
    schedule = learning_rate_schedule(OptimizerConfig(2.0, warmup_steps=4), 10)
    rates = [float(schedule(step)) for step in range(11)]
    expected = [0, 0.5, 1, 1.5] + [2 * (1 - step / 10) for step in range(4, 11)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "change",
    [{"learning_rate": 0.0}, {"warmup_steps": 11}, {"beta_1": 1.0}, {"epsilon": 0.0}],
)
def test_values_out_of_range_are_refused(change):
    config = OptimizerConfig(**({"warmup_steps": 0} | change))
    with pytest.raises(UserError, match=next(iter(change))):
        config.validate(total_steps=10)
