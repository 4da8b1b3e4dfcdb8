"""Projections and their gradients against the formulas, derived automatically."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.layers.projection import from_positions_last, to_positions_last


def plain_to(x, kernel, bias):
    return (x @ kernel + bias).swapaxes(1, 2)


def plain_from(x, kernel, bias):
    return x.swapaxes(1, 2) @ kernel + bias


@pytest.mark.parametrize(
    ("found", "right", "shape"),
    [(to_positions_last, plain_to, (3, 5, 4)), (from_positions_last, plain_from, (3, 4, 5))],
)
def test_value_and_gradients(found, right, shape):
    random = np.random.default_rng(0)
    inputs = [jnp.asarray(random.normal(size=each), jnp.float32) for each in (shape, (4, 6), (6,))]
    weights = jnp.asarray(random.normal(size=right(*inputs).shape), jnp.float32)

    def run(function):
        gradients = jax.grad(lambda *x: jnp.sum(weights * function(*x)), argnums=(0, 1, 2))
        return [function(*inputs), *gradients(*inputs)]

    for one, other in zip(run(found), run(right), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_sums_in_bfloat16_do_not_stop_growing():
    """In bfloat16 256 + 1 is 256."""
    x = jnp.ones((4, 200, 2), jnp.bfloat16)
    kernel, bias = jnp.ones((2, 3), jnp.bfloat16), jnp.zeros(3, jnp.bfloat16)
    gradient = jax.grad(lambda bias: jnp.sum(to_positions_last(x, kernel, bias)))(bias)
    assert gradient.tolist() == [800.0] * 3
