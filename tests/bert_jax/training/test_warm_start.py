"""Starting from another run's parameters: what is taken, what is fresh, what is refused."""

import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from bert_jax.errors import UserError
from bert_jax.objectives.pretraining import PretrainingObjective
from bert_jax.parallel.sharding import make_mesh, put_batch
from bert_jax.training.optimizer import (
    AdamState,
    OptimizerConfig,
    learning_rate_schedule,
    make_optimizer,
)
from bert_jax.training.step import abstract_state, init_state, make_train_step
from bert_jax.training.warm_start import check_adam, match_params, with_adam
from tests.bert_jax.conftest import make_batch

CONFIG = OptimizerConfig(learning_rate=1e-2, warmup_steps=4)


def made(config):
    """The optimizer and the mesh of a run."""
    optimizer = make_optimizer(config, learning_rate_schedule(config, 20))
    return optimizer, make_mesh(devices=jax.devices()[:1])


def state_of(objective, seed=0, given=None):
    optimizer, mesh = made(CONFIG)
    return init_state(objective, optimizer, mesh, seed, given), optimizer, mesh


def test_what_is_there_is_taken_and_the_rest_is_fresh(shallow, given):
    encoder = unflatten_dict(given, sep="/")["encoder"]
    headless = {"encoder": encoder, "classifier": {"kernel": np.ones((8, 3))}}
    state = state_of(shallow)[0]
    before = jax.device_get(state.params)
    start = match_params(state.params, headless, "run")
    assert start.fresh == ["masked_lm", "next_sentence_head", "pooler"]
    assert start.unused == ["classifier"]
    after = jax.device_get(state_of(shallow, given=start.params)[0].params)
    jax.tree.map(np.testing.assert_array_equal, after["encoder"], encoder)
    for name in start.fresh:
        jax.tree.map(np.testing.assert_array_equal, after[name], before[name])


def shapes_of(objective, config=CONFIG):
    """Of a fresh state, which is not made."""
    return abstract_state(objective, *made(config))[0]


def test_another_shape_or_encoder_is_refused(objective, params):
    shapes = shapes_of(objective).params
    other = jax.tree.map(np.asarray, params)
    other["pooler"] = {"dense": {"kernel": np.ones((8, 4)), "bias": np.ones(8)}}
    with pytest.raises(UserError, match=r"pooler/dense/kernel is \(8, 4\), the run's is \(8, 8\)"):
        match_params(shapes, other, "run")
    shallow = params | {"encoder": {k: v for k, v in params["encoder"].items() if k != "layer_1"}}
    with pytest.raises(UserError, match=r"another encoder.*layer_1"):
        match_params(shapes, shallow, "run")


def test_a_run_goes_on_with_the_moments_as_if_never_stopped(shallow, given):
    """Six steps at once against three, a transfer by plain arrays, and three more."""
    state, optimizer, mesh = state_of(shallow, given=given)
    step = make_train_step(shallow, optimizer, mesh)
    batches = [put_batch(make_batch(shallow.config, seed=number), mesh) for number in range(6)]
    for batch in batches[:3]:
        state, _ = step(state, batch, 0)
    half = jax.device_get(state)
    moments = next(part for part in half.opt_state if hasattr(part, "mu"))
    for batch in batches[3:]:
        state, _ = step(state, batch, 0)

    start = match_params(half.params, half.params, "half")
    other = state_of(shallow, seed=1, given=start.params)[0]
    check_adam(other, moments)
    other = with_adam(other, moments, 3)
    assert int(other.step) == 3
    for batch in batches[3:]:
        other, _ = step(other, batch, 0)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(other), jax.device_get(state))


def test_moments_that_do_not_fit_are_refused(objective, params):
    zeros = jax.tree.map(np.zeros_like, params)
    other = OptimizerConfig(name="adamw", learning_rate=1e-2, warmup_steps=4)
    with pytest.raises(UserError, match=r"needs optimizer.name bert_adamw"):
        check_adam(shapes_of(objective, other), AdamState(zeros, zeros))
    frozen = OptimizerConfig(learning_rate=1e-2, warmup_steps=4, frozen=("pooler",))
    with pytest.raises(UserError, match=r"nothing frozen"):
        check_adam(shapes_of(objective, frozen), AdamState(zeros, zeros))
    without_pooler = {name: part for name, part in zeros.items() if name != "pooler"}
    with pytest.raises(UserError, match=r"no moments of Adam for pooler/dense/bias"):
        check_adam(shapes_of(objective), AdamState(zeros, without_pooler))
    masked = dict.fromkeys(zeros)  # as a run with everything frozen leaves them
    with pytest.raises(UserError, match=r"no moments of Adam for"):
        check_adam(shapes_of(objective), AdamState(masked, masked))


def test_the_objective_without_pairs_leaves_the_pooler(objective, params):
    shapes = shapes_of(PretrainingObjective(objective.config, None)).params
    assert match_params(shapes, params, "run").unused == ["next_sentence_head", "pooler"]
