"""LayerNorm against the formula in float64, its gradient against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.layers.layer_norm import layer_norm

EPSILON = 1e-12


def reference(x, scale, bias):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + EPSILON) * scale + bias


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    # A mean that is large beside the deviation, where cancellation would show.
    x = random.normal(3.0, 0.5, (2, 3, 64))
    return x, random.normal(1, 0.2, 64), random.normal(0, 0.2, 64), random.normal(0, 1, x.shape)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("bfloat16", 0.02)])
def test_value(arrays, dtype, tolerance):
    x, scale, bias, _ = arrays
    x = jnp.asarray(x, dtype)
    found = layer_norm(x, jnp.float32(scale), jnp.float32(bias), EPSILON)
    assert found.dtype == dtype
    right = reference(np.asarray(x, np.float64), scale, bias)
    np.testing.assert_allclose(np.asarray(found, np.float64), right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("bfloat16", 0.05)])
def test_gradients(arrays, dtype, tolerance):
    *inputs, weights = arrays
    inputs[0] = np.asarray(jnp.asarray(inputs[0], dtype), np.float64)

    def loss(*arguments):
        return float((reference(*arguments) * weights).sum())

    def ours(x, scale, bias):
        return jnp.sum(layer_norm(x, scale, bias, EPSILON).astype(jnp.float32) * weights)

    typed = [jnp.asarray(inputs[0], dtype), *(jnp.float32(each) for each in inputs[1:])]
    found = jax.grad(ours, argnums=(0, 1, 2))(*typed)
    random = np.random.default_rng(1)
    for argument, gradient in enumerate(found):
        for _ in range(5):
            direction = random.normal(0, 1, inputs[argument].shape)
            step = 1e-5
            sides = []
            for sign in (1, -1):
                moved = list(inputs)
                moved[argument] = inputs[argument] + sign * step * direction
                sides.append(loss(*moved))
            slope = (sides[0] - sides[1]) / (2 * step)
            assert float(jnp.sum(gradient.astype(jnp.float32) * direction)) == pytest.approx(
                slope, rel=tolerance, abs=30 * tolerance
            )
