"""The hash behind dropout is as even and as independent as coins are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.layers.dropout import Dropout, dropout, keep_scale, random_bits

SHAPE = (4, 8, 64, 96)
COUNT = int(np.prod(SHAPE))


@pytest.fixture(scope="module")
def bits():
    """uint32 [keys, *SHAPE] of keys as a step makes them: folded from step and layer."""
    keys = [jax.random.fold_in(jax.random.key(seed), step) for seed in (0, 1) for step in (0, 1)]
    return np.stack([np.asarray(random_bits(key, SHAPE)) for key in keys])


def test_every_bit_is_set_half_of_the_time(bits):
    for bit in range(32):
        shares = ((bits >> bit) & 1).reshape(len(bits), -1).mean(axis=1)
        assert np.abs(shares - 0.5).max() < 4.5 * 0.5 / COUNT**0.5


def test_values_are_uniform(bits):
    """Chi-squared over 256 classes of the high byte, which decides, and of the low one."""
    for shift in (24, 0):
        for each in bits:
            counts = np.bincount((each.reshape(-1) >> shift) & 255, minlength=256)
            statistic = ((counts - COUNT / 256) ** 2 / (COUNT / 256)).sum()
            assert statistic < 255 + 5 * (2 * 255) ** 0.5


def kept(bits):
    return (bits >= round(0.1 * 2**32)).astype(np.float64) - 0.9


def test_no_correlation_along_axes_and_between_keys(bits):
    k = kept(bits)
    limit = 4.5 * 0.09 / COUNT**0.5
    for axis in range(1, k.ndim):
        for shift in (1, 2, 3, 7):
            assert abs((k[0] * np.roll(k[0], shift, axis=axis - 1)).mean()) < limit
    for one in range(len(k)):
        for other in range(one):
            assert abs((k[one] * k[other]).mean()) < limit
    # Triples in a row, and rows and columns as wholes.
    assert abs((k[0] * np.roll(k[0], 1, -1) * np.roll(k[0], 2, -1)).mean()) < limit
    for axes in ((0, 1, 2), (0, 1, 3), (1, 2, 3), (0, 2, 3)):
        means = k[0].mean(axis=axes)
        assert np.abs(means).max() < 5 * 0.3 / (COUNT / means.size) ** 0.5


def test_rows_do_not_repeat(bits):
    rows = bits[0].reshape(-1, SHAPE[-1])
    assert len(np.unique(rows, axis=0)) == len(rows)
    # A column of one row that equals a column of another would be a shifted copy of it.
    assert len(np.unique(bits[0])) > COUNT - 5 - 1.2 * COUNT**2 / 2**33


def test_dropout_scales_and_backward_uses_the_same_mask():
    key, x = jax.random.key(3), jnp.full((64, 128), 3.0)
    y, backward = jax.vjp(lambda x: dropout(x, key, 0.25), x)
    assert set(np.unique(y).tolist()) == {0.0, 4.0}
    assert float(jnp.mean(y)) == pytest.approx(3.0, abs=0.1)
    np.testing.assert_array_equal(backward(jnp.full_like(x, 3.0))[0], y)
    assert dropout(x.astype(jnp.bfloat16), key, 0.25).dtype == jnp.bfloat16


def test_the_rate_is_exact_at_the_ends():
    assert (keep_scale(jax.random.key(0), (100,), 0.0) == 1).all()
    assert (keep_scale(jax.random.key(0), (1000,), 1 - 2**-30) == 0).all()


def test_module_needs_a_key_only_when_it_drops():
    x = jnp.ones((4, 4))
    assert (Dropout(0.5).apply({}, x, deterministic=True) == x).all()
    assert (Dropout(0.0).apply({}, x, deterministic=False) == x).all()
    y = Dropout(0.5).apply({}, x, deterministic=False, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(y).tolist()) == {0.0, 2.0}
