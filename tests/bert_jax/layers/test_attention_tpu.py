"""The kernel for TPUs, interpreted on this machine, against the formula; tests/tpu compiles it."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh

from bert_jax.layers import attention_tpu
from bert_jax.layers.attention import FORMULA, Passes, attend
from bert_jax.layers.attention_mask import AttentionMask, Rule
from bert_jax.layers.dropout import keep_scale
from bert_jax.parallel.sharding import AXES

BATCH, HEADS, SIZE = 2, 3, 8
KERNEL = Passes(
    partial(attention_tpu.forward, interpret=True), partial(attention_tpu.backward, interpret=True)
)


def arrays(length, number=4):
    random = np.random.default_rng(0)
    shape = (BATCH, HEADS, SIZE, length)
    return [jnp.asarray(random.normal(0, 1, shape), jnp.float32) for _ in range(number)]


def sequences(length):
    """Two sequences in each row, the second row padded."""
    columns = np.arange(length)
    lengths = np.array([length, length - 3])[:, None]
    return jnp.asarray((columns < lengths) * (1 + (columns >= length // 3)), jnp.int32)


def run(passes, length, mask, rate, weights=1.0):
    """Context and the gradients of query, key and value."""
    query, key, value, factors = arrays(length)
    rest = (mask, jax.random.key(3) if rate else None, rate)

    def loss(*inputs):
        return jnp.sum(weights * factors * attend(passes, *inputs, *rest))

    @jax.jit
    def context_and_gradients(*inputs):
        return attend(passes, *inputs, *rest), *jax.grad(loss, argnums=(0, 1, 2))(*inputs)

    return context_and_gradients(query, key, value)


@dataclasses.dataclass(frozen=True)
class Causal(Rule):
    """A kind of mask from outside: a token attends to those before it and to itself."""

    @property
    def depends_on_query(self):
        return True

    def allows(self, queries, keys):
        return super().allows(queries, keys) & (keys.position <= queries.position)


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("rule", [Rule(), Rule(packed=True), Causal()], ids=str)
@pytest.mark.parametrize("length", [7, 128, 256])
def test_value_and_gradients(length, rule, rate):
    """256 tokens are two chunks of queries. In a loss the contexts of padding do not occur."""
    sequence = sequences(length)
    weights = (sequence > 0)[:, None, None, :]
    mask = AttentionMask(sequence, rule)
    found = run(KERNEL, length, mask, rate, weights)
    right = run(FORMULA, length, mask, rate, weights)
    for one, other in zip(found, right, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=5e-6)


def test_a_row_without_keys_is_as_in_the_formula():
    """Its scores are near -10,000, where a float32 has three digits after the point."""
    mask = AttentionMask(jnp.zeros((BATCH, 7), jnp.int32))
    found = run(KERNEL, 7, mask, 0.0)
    for one, other in zip(found, run(FORMULA, 7, mask, 0.0), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3)


def test_dropout_has_the_bits_of_the_whole_array():
    """Equal scores and unit vectors as values show each probability."""
    length, rate = SIZE, 0.4
    query = jnp.zeros((BATCH, HEADS, SIZE, length))
    value = jnp.broadcast_to(jnp.eye(length), query.shape)
    key = jax.random.key(5)
    mask = AttentionMask(jnp.ones((BATCH, length), jnp.int32))
    context = attend(KERNEL, query, query, value, mask, key, rate)
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
