"""The kernel for TPUs, interpreted on this machine, against the formula; tests/tpu compiles it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh

from bert_jax.layers import attention_tpu
from bert_jax.layers.attention import formula
from bert_jax.layers.dropout import keep_scale
from bert_jax.parallel.sharding import AXES

BATCH, HEADS, SIZE = 2, 3, 8


def arrays(length, number=4):
    random = np.random.default_rng(0)
    shape = (BATCH, HEADS, SIZE, length)
    return [jnp.asarray(random.normal(0, 1, shape), jnp.float32) for _ in range(number)]


def sequences(length):
    """Two sequences in each row, the second row padded."""
    columns = np.arange(length)
    lengths = np.array([length, length - 3])[:, None]
    return jnp.asarray((columns < lengths) * (1 + (columns >= length // 3)), jnp.int32)


def run(function, length, sequence, rate, packed, *more, weights=1.0):
    """Context and the gradients of query, key and value."""
    query, key, value, factors = arrays(length)
    rest = (sequence, jax.random.key(3) if rate else None, rate, packed, *more)

    def loss(*inputs):
        return jnp.sum(weights * factors * function(*inputs, *rest))

    context = function(query, key, value, *rest)
    return [context, *jax.grad(loss, argnums=(0, 1, 2))(query, key, value)]


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("length", [7, 128, 256])
def test_value_and_gradients(length, packed, rate):
    """256 tokens are two chunks of queries. In a loss the contexts of padding do not occur."""
    sequence = sequences(length)
    weights = (sequence > 0)[:, None, None, :]
    found = run(attention_tpu.attention, length, sequence, rate, packed, True, weights=weights)
    right = run(formula, length, sequence, rate, packed, weights=weights)
    for one, other in zip(found, right, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=5e-6)


def test_a_row_without_keys_is_as_in_the_formula():
    """Its scores are near -10,000, where a float32 has three digits after the point."""
    sequence = jnp.zeros((BATCH, 7), jnp.int32)
    found = run(attention_tpu.attention, 7, sequence, 0.0, False, True)
    for one, other in zip(found, run(formula, 7, sequence, 0.0, False), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3)


def test_dropout_has_the_bits_of_the_whole_array():
    """Equal scores and unit vectors as values show each probability."""
    length, rate = SIZE, 0.4
    query = jnp.zeros((BATCH, HEADS, SIZE, length))
    value = jnp.broadcast_to(jnp.eye(length), query.shape)
    key = jax.random.key(5)
    ones = jnp.ones((BATCH, length), jnp.int32)
    context = attention_tpu.attention(query, query, value, ones, key, rate, False, True)
    right = keep_scale(key, (BATCH, HEADS, length, length), rate) / length
    np.testing.assert_allclose(context.swapaxes(2, 3), right, rtol=1e-6)


def mesh(platform, *sizes):
    device = AbstractDevice(device_kind="TPU v5 lite", num_cores=1, platform=platform)
    return AbstractMesh(sizes, AXES, abstract_device=device)


@pytest.mark.parametrize(
    ("shape", "mesh_", "expected"),
    [
        ((8, 12, 64, 128), mesh("tpu", 4, 2, 3), True),
        ((8, 12, 64, 1024), mesh("tpu", 1, 1, 1), True),
        ((8, 12, 64, 128), mesh("cpu", 1, 1, 1), False),
        ((8, 12, 64, 128), jax.sharding.get_abstract_mesh(), False),
        ((8, 12, 64, 96), mesh("tpu", 1, 1, 1), False),
        ((8, 12, 64, 2048), mesh("tpu", 1, 1, 1), False),
        ((8, 12, 8, 128), mesh("tpu", 1, 1, 1), False),
        ((4, 12, 64, 128), mesh("tpu", 4, 2, 1), False),
        ((8, 12, 64, 128), mesh("tpu", 1, 1, 8), False),
    ],
)
def test_where_it_is_taken(shape, mesh_, expected):
    assert attention_tpu.fits(jnp.zeros(shape, jnp.bfloat16), mesh_) is expected
