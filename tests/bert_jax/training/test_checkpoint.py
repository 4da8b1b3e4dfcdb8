"""Parameters and moments read back without the run that wrote them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.errors import UserError
from bert_jax.models.bert_architecture import BERT
from bert_jax.parallel.sharding import make_mesh
from bert_jax.training.checkpoint import Checkpoints, save_params
from bert_jax.training.optimizer import AdamState, OptimizerConfig, make_optimizer
from bert_jax.training.saved_params import load_adam, load_params
from bert_jax.training.step import TrainState, abstract_state, init_state
from tests.bert_jax.conftest import TINY
from tests.checkpoints import assert_same

PARAMS = {
    "encoder": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.ones(3, "f4")},
    "pooler": {"dense": {"kernel": np.full((2, 2), 0.5, np.float32)}},
}


def test_moments_of_a_run(tmp_path):
    optimizer = make_optimizer(OptimizerConfig(), lambda step: 1e-3)
    params = jax.tree.map(jnp.asarray, PARAMS)
    _, state = optimizer.update(params, optimizer.init(params), params)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(TrainState(jnp.int32(1), params, state), [0, 0, 0], {"model": {}})
    checkpoints.close()
    adam = load_adam(tmp_path)
    expected = next(part for part in state if isinstance(part, AdamState))
    assert_same(adam.mu, jax.device_get(expected.mu))
    assert_same(adam.nu, jax.device_get(expected.nu))
    assert_same(load_params(tmp_path)[0], PARAMS)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"frozen": ("encoder/embeddings", "pooler")},
        {"name": "lamb", "frozen": ("encoder",), "layer_decay": 0.9},
        {"name": "adamw", "layer_decay": 0.9},
    ],
)
def test_every_optimizer_comes_back(objective, tmp_path, settings):
    """To the bit, onto the shardings, with what has no state still without it."""
    config = OptimizerConfig(**settings)
    optimizer = make_optimizer(config, lambda step: 1e-3, BERT.blocks(TINY))
    mesh = make_mesh()
    state = init_state(objective, optimizer, mesh, seed=0)
    ones = jax.tree.map(jnp.ones_like, state.params)
    _, opt_state = jax.jit(optimizer.update)(ones, state.opt_state, state.params)
    state = TrainState(state.step + 3, state.params, opt_state)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(state, [1, 2, 3], {"model": {}})
    checkpoints.wait()
    restored = checkpoints.restore(*abstract_state(objective, optimizer, mesh))
    checkpoints.close()
    assert restored.cursor == [1, 2, 3]
    assert jax.tree.structure(restored.state) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored.state, state)


@pytest.mark.parametrize("adam", [None, AdamState(PARAMS, PARAMS)])
def test_converted_parameters(tmp_path, adam):
    save_params(tmp_path, PARAMS, {"model": {"vocab_size": 3}}, step=5, adam=adam)
    params, config, step = load_params(tmp_path)
    assert_same(params, PARAMS)
    assert (config, step) == ({"model": {"vocab_size": 3}}, 5)
    loaded = load_adam(tmp_path)
    assert (loaded is None) == (adam is None)
    if adam:
        assert_same(loaded.nu, PARAMS)


def test_no_or_damaged_checkpoints(tmp_path):
    with pytest.raises(UserError, match="holds no checkpoint"):
        load_adam(tmp_path)
    save_params(tmp_path, PARAMS, {})
    with pytest.raises(UserError, match=r"no checkpoint of step 3; it has \[0\]"):
        load_params(tmp_path, 3)
    for path in (tmp_path / "checkpoints" / "0" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot be read .*; choose another by its step"):
        load_params(tmp_path)
