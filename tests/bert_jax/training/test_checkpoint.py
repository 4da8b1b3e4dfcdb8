"""Parameters and moments read back without the run that wrote them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore
from flax.traverse_util import flatten_dict

from bert_jax.errors import UserError
from bert_jax.models.bert_architecture import BERT
from bert_jax.parallel.sharding import make_mesh, replicated
from bert_jax.training.checkpoint import Checkpoints, save_params
from bert_jax.training.optimizer import AdamState, OptimizerConfig, make_optimizer
from bert_jax.training.saved_params import load_adam, load_params, open_arrays
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
def test_every_optimizer_comes_back(objective, params, tmp_path, settings):
    """To the bit, onto the shardings, with what has no state still without it."""
    config = OptimizerConfig(**settings)
    optimizer = make_optimizer(config, lambda step: 1e-3, BERT.blocks(TINY))
    mesh = make_mesh()
    state = init_state(objective, optimizer, mesh, 0, given=flatten_dict(params, sep="/"))
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


def test_devices_share_the_copying_of_large_arrays_only(tmp_path):
    """And Orbax alone reads what is written."""
    import orbax.checkpoint as ocp

    arrays = {"small": jnp.arange(8.0), "large": jnp.ones(4 * 2**18)}
    params = jax.device_put(arrays, replicated(make_mesh()))
    _saved(tmp_path / "checkpoints", params)
    found = open_arrays(tmp_path / "checkpoints" / "1")
    chunks = {name: array.chunk_layout.write_chunk.shape for name, array in found.items()}
    assert chunks["params.small"] == (8,)
    assert chunks["params.large"] == (2**18,)
    with ocp.StandardCheckpointer() as checkpointer:
        state = checkpointer.restore((tmp_path / "checkpoints" / "1" / "state").absolute())
    assert_same(state["params"], jax.device_get(params))


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


def _saved(folder, arrays):
    """A checkpoint of a state whose parameters are these arrays."""
    checkpoints = Checkpoints(folder)
    checkpoints.save(TrainState(jnp.int32(1), arrays, ()), [0, 0, 0], {"model": {}})
    checkpoints.close()


def _targets(arrays):
    """What `restore` is asked for: shapes and shardings of a state with such parameters."""
    state = TrainState(jnp.int32(1), arrays, ())
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    return shapes, jax.tree.map(lambda _: sharding, shapes)


@pytest.mark.parametrize(
    "wanted",
    [
        {"a": jnp.ones(8)},  # would be cut
        {"a": jnp.ones(32)},
        {"a": jnp.ones(16, jnp.bfloat16)},
        {"b": jnp.ones(16)},
        {"a": jnp.ones(16), "b": jnp.ones(16)},
        {},  # would be forgotten
    ],
)
def test_a_state_of_another_shape_is_refused(tmp_path, wanted):
    _saved(tmp_path / "checkpoints", {"a": jnp.arange(16.0)})
    with pytest.raises(UserError, match=r"another state .*params\.[ab] .* --init-from"):
        Checkpoints(tmp_path / "checkpoints").restore(*_targets(wanted))


def test_a_missing_part_of_an_array_is_not_read_as_zeros(tmp_path):
    _saved(tmp_path / "checkpoints", {"a": jnp.arange(1.0, 17.0)})
    state = (tmp_path / "checkpoints" / "1" / "state").absolute()
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{state}/"}).result()
    (part,) = (key for key in store.list().result() if key == b"params.a/0")
    store.delete_range(tensorstore.KvStore.KeyRange(part, part + b"\0")).result()
    with pytest.raises(UserError, match="cannot be read"):
        load_params(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        Checkpoints(tmp_path / "checkpoints").restore(*_targets({"a": jnp.ones(16)}))


@pytest.mark.parametrize("damage", ["", "[]", '{"tree_metadata": []}'])
def test_a_continued_run_names_a_damaged_checkpoint(tmp_path, damage):
    _saved(tmp_path / "checkpoints", {"a": jnp.ones(16)})
    (tmp_path / "checkpoints" / "1" / "state" / "_METADATA").write_text(damage)
    with pytest.raises(UserError, match=f"{tmp_path}.*cannot be read"):
        Checkpoints(tmp_path / "checkpoints").restore(*_targets({"a": jnp.ones(16)}))
