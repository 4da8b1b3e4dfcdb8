"""Checkpoints that hold a part: what is left out, put back, and told apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.errors import UserError
from bert_jax.parallel.sharding import make_mesh, replicated
from bert_jax.training.checkpoint import Checkpoints
from bert_jax.training.partial import (
    completed,
    completed_by,
    fingerprint,
    frozen_part,
    without,
)
from bert_jax.training.saved_params import load_params
from bert_jax.training.step import TrainState

FLAT = {
    "encoder/layer_1/kernel": np.ones((2, 3), np.float32),
    "encoder/layer_10/kernel": np.zeros(3, np.float32),
    "encoder/layer_1/bias": np.full(3, 2.0, np.float32),
    "pooler/bias": np.zeros(2, np.float32),
}
TREE = {
    "encoder": {
        "layer_1": {"kernel": FLAT["encoder/layer_1/kernel"], "bias": np.full(3, 2, np.float32)},
        "layer_10": {"kernel": FLAT["encoder/layer_10/kernel"]},
    },
    "pooler": {"bias": FLAT["pooler/bias"]},
}


def test_only_the_encoders_frozen_parameters_are_left_out():
    assert frozen_part(FLAT, ()) == {}
    assert frozen_part(FLAT, ("encoder/layer_1", "pooler")).keys() == {
        "encoder/layer_1/kernel",
        "encoder/layer_1/bias",
    }
    assert frozen_part(FLAT, ("encoder/layer_1/bias",)).keys() == {"encoder/layer_1/bias"}


def test_left_out_and_put_back():
    unsaved = frozen_part(FLAT, ("encoder/layer_1",))
    part = without(TREE, unsaved)
    assert part == {"encoder": {"layer_10": TREE["encoder"]["layer_10"]}, "pooler": TREE["pooler"]}
    for whole in (
        completed(part, unsaved),
        completed_by(part, TREE, fingerprint(unsaved), "base"),
    ):
        assert jax.tree.structure(whole) == jax.tree.structure(TREE)
        jax.tree.map(np.testing.assert_array_equal, whole, TREE)
    with pytest.raises(UserError, match="the parameters in base are not those that this run was"):
        completed_by(part, TREE, fingerprint(FLAT), "base")


def test_a_fingerprint_tells_names_shapes_and_values_apart():
    array = np.arange(6, dtype=np.float32)
    others = [
        {"a": array},
        {"b": array},
        {"a": array.reshape(2, 3)},
        {"a": array + np.float32(1e-6)},
        {"a": array, "b": array},
        {},
    ]
    assert len({fingerprint(params) for params in others}) == len(others)
    assert fingerprint({"a": array, "b": array}) == fingerprint({"b": array, "a": array.copy()})
    assert fingerprint({"a": array.reshape(2, 3).T}) == fingerprint(
        {"a": np.ascontiguousarray(array.reshape(2, 3).T)}
    )


def test_checkpoints_of_a_part(tmp_path):
    """What is saved is small; what is restored is whole and placed."""
    large = np.random.default_rng(0).normal(size=(500, 400)).astype(np.float32)
    base = {"encoder/table": large}
    params = {"encoder": {"table": jnp.asarray(large)}, "head": {"bias": jnp.arange(3.0)}}
    sharding = replicated(make_mesh(devices=jax.devices()[:2]))
    state = jax.device_put(TrainState(jnp.int32(5), params, (params["head"],)), sharding)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    config = {"base": {"folder": "somewhere", "step": None, "fingerprint": fingerprint(base)}}
    checkpoints = Checkpoints(tmp_path / "checkpoints", base=base)
    checkpoints.save(state, [1, 2], config)
    checkpoints.wait()
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert size < large.nbytes / 20
    restored = checkpoints.restore(shapes, jax.tree.map(lambda _: sharding, shapes))
    checkpoints.close()
    assert restored.cursor == [1, 2]
    assert jax.tree.structure(restored.state) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored.state, state)
    assert restored.state.params["encoder"]["table"].sharding == sharding

    with pytest.raises(UserError, match="holds only what was trained on top of somewhere; make a"):
        load_params(tmp_path)
    loaded, _, step = load_params(tmp_path, read_base=lambda named: {"encoder": {"table": large}})
    assert step == 5
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    with pytest.raises(UserError, match="the parameters in somewhere are not those"):
        load_params(tmp_path, read_base=lambda named: {"encoder": {"table": large + 1}})
