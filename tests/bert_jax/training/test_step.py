"""The train step: accumulation, the mesh and donation change nothing but speed and memory."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import Mesh

from bert_jax.errors import UserError
from bert_jax.objectives.objective import evaluation_keys, training_keys
from bert_jax.objectives.pretraining import PretrainingObjective
from bert_jax.parallel.sharding import check_batch_size, make_mesh, put_batch
from bert_jax.training.evaluate import evaluate
from bert_jax.training.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
from bert_jax.training.step import init_state, make_eval_step, make_train_step
from tests.bert_jax.conftest import make_batch

CONFIG = OptimizerConfig(learning_rate=1e-2, warmup_steps=0)
OPTIMIZER = make_optimizer(CONFIG, learning_rate_schedule(CONFIG, 100))


def mesh_of(devices: int) -> Mesh:
    return make_mesh(devices=jax.devices()[:devices])


@functools.cache
def step_of(objective, mesh, accumulation=1):
    """A step that is compiled once."""
    return make_train_step(objective, OPTIMIZER, mesh, accumulation=accumulation)


def train(objective, mesh, given, steps=3, accumulation=1, seed=0):
    state = init_state(objective, OPTIMIZER, mesh, seed, given)
    step = step_of(objective, mesh, accumulation)
    losses = []
    for number in range(steps):
        batch = put_batch(make_batch(objective.config, seed=number), mesh)
        state, metrics = step(state, batch, seed)
        losses.append({name: float(value) for name, value in metrics.items()})
    return jax.device_get(state.params), losses


def assert_same_run(found, expected):
    for one, other in zip(found[1], expected[1], strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5), found[0], expected[0]
    )


@pytest.fixture(scope="module")
def one_device_run(shallow, given):
    return train(shallow, mesh_of(1), given)


def test_four_devices_equal_one(shallow, given, one_device_run):
    assert_same_run(train(shallow, mesh_of(4), given), one_device_run)


def test_accumulation_equals_one_large_batch(shallow, given, one_device_run):
    assert_same_run(train(shallow, mesh_of(2), given, accumulation=2), one_device_run)


def test_a_few_steps_on_one_batch_learn_it(shallow, given):
    """The model has a pulse."""
    mesh = mesh_of(1)
    state = init_state(shallow, OPTIMIZER, mesh, 0, given)
    step = step_of(shallow, mesh)
    batch = put_batch(make_batch(shallow.config), mesh)
    losses = []
    for _ in range(40):
        state, metrics = step(state, batch, 0)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.3 * losses[0]
    assert int(state.step) == 40


def test_the_given_state_is_donated(shallow, given):
    mesh = mesh_of(1)
    state = init_state(shallow, OPTIMIZER, mesh, 0, given)
    step = step_of(shallow, mesh)
    step(state, put_batch(make_batch(shallow.config), mesh), 0)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.params, state.opt_state)))


def test_frozen_parameters_stay_and_the_norm_is_of_the_others(shallow, given):
    mesh = mesh_of(1)
    config = dataclasses.replace(CONFIG, frozen=("encoder", "pooler"))
    optimizer = make_optimizer(config, learning_rate_schedule(config, 100))
    batch = put_batch(make_batch(shallow.config), mesh)
    before = jax.device_get(init_state(shallow, optimizer, mesh, 0, given))
    gradients = jax.jit(jax.grad(lambda params: sum(_losses(shallow, params, batch))))(
        before.params
    )
    step = make_train_step(shallow, optimizer, mesh)
    after, metrics = step(init_state(shallow, optimizer, mesh, 0, given), batch, 0)
    for name, part in jax.device_get(after.params).items():
        same = jax.tree.map(np.array_equal, part, before.params[name])
        assert all(jax.tree.leaves(same)) == (name in ("encoder", "pooler"))
    trained = {name: gradients[name] for name in ("masked_lm", "next_sentence_head")}
    assert float(metrics["gradient_norm"]) == pytest.approx(
        float(optax.tree.norm(trained)), rel=1e-5
    )


def _losses(objective, params, batch):
    sums, weights = objective.sums(params, batch, evaluation_keys(0)), objective.loss_weights(batch)
    return [sums[name][0] / weight for name, weight in weights.items()]


def test_dropout_depends_on_seed_and_step_alone(with_dropout, given):
    objective = PretrainingObjective(dataclasses.replace(with_dropout, num_hidden_layers=1))
    first, again = (train(objective, mesh_of(1), given, steps=2) for _ in range(2))
    assert first[1] == again[1]
    assert train(objective, mesh_of(1), given, steps=2, seed=1)[1] != first[1]
    on_four = train(objective, mesh_of(4), given, steps=2)
    assert_same_run(on_four, first)


def test_evaluation_divides_once(objective, params):
    """Two unequal batches: the average is over predictions, not over batches."""
    mesh = mesh_of(1)
    eval_step = make_eval_step(objective, mesh)
    batches = [make_batch(objective.config, seed=seed) for seed in (1, 2)]
    joined = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    two = evaluate(eval_step, params, batches, mesh)
    one = evaluate(eval_step, params, [joined], mesh)
    assert two == pytest.approx(one, rel=1e-5)
    assert two["loss"] == pytest.approx(two["masked_lm_loss"] + two["next_sentence_loss"])


class Guess:
    """Anything may sample: its loss is what it draws."""

    def init(self, key):
        return {"kernel": nn.LogicallyPartitioned(jnp.zeros(4), ("embed",))}

    def loss_weights(self, batch):
        return {"guess_loss": jnp.float32(1)}

    def sums(self, params, batch, keys):
        drawn = jax.random.uniform(keys.sampling) + 0 * params["kernel"].sum()
        return {"guess_loss": (drawn, jnp.float32(1))}


def test_what_is_sampled_depends_on_seed_step_and_micro_batch():
    objective, mesh = Guess(), mesh_of(1)
    batch = put_batch({"input_ids": np.zeros((4, 1))}, mesh)

    def guesses(accumulation, seed):
        step = make_train_step(objective, OPTIMIZER, mesh, accumulation=accumulation)
        state = init_state(objective, OPTIMIZER, mesh, 0)
        found = []
        for _ in range(2):
            state, metrics = step(state, batch, seed)
            found.append(float(metrics["guess_loss"]))
        return found

    once = guesses(1, seed=0)
    assert once == guesses(1, seed=0)
    assert len({*once, *guesses(1, seed=1)}) == 4
    key = jax.random.fold_in(jax.random.key(0), 0)
    drawn = [jax.random.uniform(training_keys(k).sampling) for k in jax.random.split(key)]
    assert guesses(2, seed=0)[0] == pytest.approx(float(sum(drawn)))
    assert drawn[0] != drawn[1]


def test_evaluation_samples_by_the_number_of_the_batch():
    objective, mesh = Guess(), mesh_of(1)
    params = {"kernel": jnp.zeros(4)}
    batches = [{"input_ids": np.zeros((4, 1))}] * 2
    eval_step = make_eval_step(objective, mesh)
    first, second = (evaluate(eval_step, params, batches, mesh) for _ in range(2))
    assert first == second
    assert evaluate(eval_step, params, batches[:1], mesh) != first


def test_a_batch_that_does_not_divide_is_refused():
    mesh = make_mesh()
    check_batch_size(8, mesh, accumulation=2)
    with pytest.raises(UserError, match=r"batch_size 6 .* 4 device"):
        check_batch_size(6, mesh)
    with pytest.raises(UserError, match="multiple of 12"):
        check_batch_size(8, mesh, accumulation=3)
