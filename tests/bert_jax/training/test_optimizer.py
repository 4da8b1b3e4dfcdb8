"""The optimizer against the original's update rule in plain NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bert_jax.errors import UserError
from bert_jax.models.bert_architecture import BERT
from bert_jax.training.optimizer import (
    OptimizerConfig,
    frozen_mask,
    learning_rate_schedule,
    make_optimizer,
)
from tests.bert_jax.conftest import TINY


def made(config, total_steps=10):
    return make_optimizer(config, learning_rate_schedule(config, total_steps), BERT.blocks(TINY))


def numpy_steps(params, gradients, config, total_steps):
    """The three optimizers, clipping and the linear schedule in float64, step by step."""
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
            first, second = m[name], v[name]
            if config.name != "bert_adamw":
                first = first / (1 - config.beta_1 ** (step + 1))
                second = second / (1 - config.beta_2 ** (step + 1))
            update = first / (np.sqrt(second) + config.epsilon)
            if name == "kernel":
                update = update + config.weight_decay * params[name]
                if config.name == "lamb":
                    update *= np.linalg.norm(params[name]) / np.linalg.norm(update)
            params[name] = params[name] - rate * update
    return params


@pytest.mark.parametrize("name", ["bert_adamw", "adamw", "lamb"])
@pytest.mark.parametrize("size", [0.01, 10.0])  # below and above the clipping norm
def test_updates_equal_the_published_rule(name, size):
    config = OptimizerConfig(name=name, learning_rate=0.1, warmup_steps=3, weight_decay=0.1)
    random = np.random.default_rng(0)
    shapes = {"kernel": (4, 3), "bias": (3,), "scale": (3,)}
    params = {n: random.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    gradients = [
        {n: random.normal(0, size, s).astype(np.float32) for n, s in shapes.items()}
        for _ in range(8)
    ]
    optimizer = made(config)
    state, found = optimizer.init(params), params
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, found)
        found = optax.apply_updates(found, updates)
    expected = numpy_steps(params, gradients, config, 10)
    for name in shapes:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)
        assert np.abs(found[name] - params[name]).max() > 1e-2


def test_decay_spares_biases_and_layer_norm(params):
    """Every kernel and embedding of the real model decays, and nothing else."""
    params = jax.tree.map(np.ones_like, params)
    optimizer = made(OptimizerConfig(learning_rate=1.0, warmup_steps=0))
    zeros = jax.tree.map(np.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    for path, update in jax.tree_util.tree_leaves_with_path(updates):
        name = path[-1].key
        expected = 0.0 if name in ("bias", "scale") else -0.01
        np.testing.assert_allclose(update, expected, rtol=1e-6, err_msg=str(path))


W, T, PEAK = 4, 10, 2.0
AFTER_WARMUP = {
    "linear": lambda t: 1 - t / T,
    "polynomial": lambda t: 1 - (t - W) / (T - W),
    "cosine": lambda t: (1 + math.cos(math.pi * (t - W) / (T - W))) / 2,
    "inverse_sqrt": lambda t: math.sqrt(W / t),
    "constant": lambda t: 1.0,
}


@pytest.mark.parametrize("warmup", [{"warmup_steps": W}, {"warmup_proportion": 0.4}])
@pytest.mark.parametrize("name", AFTER_WARMUP)
def test_schedules(name, warmup):
    config = OptimizerConfig(learning_rate=PEAK, schedule=name, **({"warmup_steps": None} | warmup))
    config.validate()
    schedule = learning_rate_schedule(config, T)
    found = [float(schedule(step)) for step in range(T + 1)]
    expected = [PEAK * t / W for t in range(W)] + [
        PEAK * AFTER_WARMUP[name](t) for t in range(W, T + 1)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    in_a_step = jax.jit(jax.vmap(schedule))(jnp.arange(T + 1))
    np.testing.assert_allclose(in_a_step, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["linear", "polynomial", "cosine"])
def test_decays_end_where_they_are_told(name):
    config = OptimizerConfig(
        learning_rate=PEAK, schedule=name, warmup_steps=W, end_proportion=0.02, decay_power=0.5
    )
    schedule = learning_rate_schedule(config, T)
    assert float(schedule(T)) == pytest.approx(0.02 * PEAK)
    assert float(schedule(T + 5)) == pytest.approx(0.02 * PEAK)
    if name == "polynomial":
        assert float(schedule(7)) == pytest.approx(PEAK * (0.02 + 0.98 * math.sqrt(0.5)))


def test_lower_layers_learn_more_slowly(params):
    """The last of the model's two blocks at half the heads' rate, the embeddings at an eighth."""
    ones = jax.tree.map(np.ones_like, params)

    def updates(**change):
        config = OptimizerConfig(learning_rate=1.0, warmup_steps=0, weight_decay=0.0, **change)
        optimizer = made(config)
        return optimizer.update(ones, optimizer.init(params), params)[0]

    ratios = jax.tree.map(lambda a, b: a / b, updates(layer_decay=0.5), updates())
    expected = {"embeddings": 0.125, "layer_0": 0.25, "layer_1": 0.5}
    for path, ratio in jax.tree_util.tree_leaves_with_path(ratios):
        part = path[1].key if path[0].key == "encoder" else "head"
        np.testing.assert_allclose(ratio, expected.get(part, 1.0), rtol=1e-6, err_msg=str(path))


def test_frozen_parameters_have_no_update_and_no_state(params):
    ones = jax.tree.map(np.ones_like, params)
    config = OptimizerConfig(
        learning_rate=1.0, warmup_steps=0, frozen=("encoder/embeddings", "encoder/layer_1")
    )
    optimizer = made(config)
    state = optimizer.init(params)
    updates, _ = optimizer.update(ones, state, params)
    frozen = trained = 0
    for path, update in jax.tree_util.tree_leaves_with_path(updates):
        if path[0].key == "encoder" and path[1].key in ("embeddings", "layer_1"):
            assert not update.any()
            frozen += update.size
        else:
            assert update.all()
            trained += update.size
    assert frozen > 0
    assert trained > 0
    in_state = sum(np.size(leaf) for leaf in jax.tree.leaves(state))
    assert in_state == 2 * trained + 1  # two moments, and the schedule's count of steps


def test_names_that_freeze_nothing_or_everything_are_refused(params):
    with pytest.raises(UserError, match=r"encoder/layer_2.*there are: encoder/emb.*encoder/lay"):
        frozen_mask(params, ("encoder/layer_2",))
    with pytest.raises(UserError, match="leaves no parameter to train"):
        frozen_mask(params, tuple(params))


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": None},
        {"warmup_steps": None},
        {"warmup_proportion": 0.1},  # as well as steps
    ],
)
def test_options_that_do_not_fit_are_refused(change):
    config = OptimizerConfig(**({"warmup_steps": 0} | change))
    with pytest.raises(UserError, match=list(change)[-1]):
        config.validate()


@pytest.mark.parametrize("warmup_steps", [-1, 11])
def test_a_warmup_that_outlasts_the_run_is_refused(warmup_steps):
    with pytest.raises(UserError, match=r"between 0 and the run's 10 steps, usually .* 1$"):
        OptimizerConfig(warmup_steps=warmup_steps).check_warmup(10)
