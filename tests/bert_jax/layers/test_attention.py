"""Attention and its gradients against the plain formula, derived automatically."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.layers.attention import dot_product_attention
from bert_jax.layers.attention_mask import AttentionMask, Rule
from bert_jax.layers.dropout import keep_scale

SHAPE = (2, 3, 4, 6)  # (B, N, D, L)


def plain(query, key, value, mask, dropout_key, rate):
    """The formula on [B, N, L, D]."""
    query, key, value = (x.swapaxes(2, 3) for x in (query, key, value))
    scores = query @ key.swapaxes(2, 3) / query.shape[-1] ** 0.5
    scores = jnp.where(jnp.broadcast_to(mask, scores.shape), scores, scores - 10_000)
    probabilities = jax.nn.softmax(scores, axis=-1)
    if dropout_key is not None:
        probabilities *= keep_scale(dropout_key, probabilities.shape, rate)
    return (probabilities @ value).swapaxes(2, 3)


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    return [jnp.asarray(random.normal(0, 1.5, SHAPE), jnp.float32) for _ in range(4)]


SEQUENCE = jnp.array([[1, 1, 1, 2, 2, 2], [1, 1, 2, 2, 0, 0]])


def mask(packed):
    """bool [B, 1, L or 1, L], by the words of `Rule`."""
    token = (SEQUENCE > 0)[:, None, None, :]
    same = SEQUENCE[:, None, :, None] == SEQUENCE[:, None, None, :]
    return token & same if packed else token


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("packed", [False, True])
def test_value_and_gradients(arrays, packed, rate):
    query, key, value, weights = arrays
    dropout_key = jax.random.key(0) if rate else None

    def run(function, *rest):
        def loss(*inputs):
            return jnp.sum(weights * function(*inputs, *rest))

        value_ = function(query, key, value, *rest)
        return value_, jax.grad(loss, argnums=(0, 1, 2))(query, key, value)

    found = run(dot_product_attention, AttentionMask(SEQUENCE, Rule(packed)), dropout_key, rate)
    right = run(plain, mask(packed), dropout_key, rate)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)  # values are near 1


def test_bfloat16_stays_near(arrays):
    query, key, value, _ = (x.astype(jnp.bfloat16) for x in arrays)
    found = dot_product_attention(query, key, value, AttentionMask(SEQUENCE), None, 0.0)
    assert found.dtype == jnp.bfloat16
    exact = plain(*(x.astype(jnp.float32) for x in (query, key, value)), mask(False), None, 0.0)
    np.testing.assert_allclose(found.astype(jnp.float32), exact, rtol=0.03, atol=0.03)


def test_a_row_without_keys_is_finite(arrays):
    query, key, value, _ = arrays
    mask_ = AttentionMask(jnp.zeros((2, 6), int))
    context = dot_product_attention(query, key, value, mask_, None, 0.0)
    assert jnp.isfinite(context).all()
