"""Losses and accuracies against direct sums."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.objectives.losses import (
    accuracy,
    binary_divergence,
    cross_entropy,
    divergence,
    span_cross_entropy,
)


def test_cross_entropy_and_accuracy_equal_direct_sums():
    random = np.random.default_rng(0)
    logits = random.normal(size=(4, 3, 7))
    labels = random.integers(0, 7, (4, 3))
    weights = random.integers(0, 2, (4, 3)).astype(np.float32)
    total = correct = 0.0
    for index in np.ndindex(4, 3):
        if weights[index]:
            row = logits[index]
            total += math.log(sum(math.exp(x) for x in row)) - row[labels[index]]
            correct += max(range(7), key=lambda k: row[k]) == labels[index]
    arguments = jnp.asarray(logits, jnp.float32), jnp.asarray(labels), jnp.asarray(weights)
    assert cross_entropy(*arguments)[0] == pytest.approx(total, rel=1e-5)
    assert accuracy(*arguments)[0] == correct
    assert cross_entropy(*arguments)[1] == accuracy(*arguments)[1] == weights.sum()


def test_smoothing_is_spread_over_the_classes_that_are_present():
    random = np.random.default_rng(1)
    logits = random.normal(size=(3, 4))
    present = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]], bool)
    labels, weights = np.array([2, 1, 0]), np.array([1.0, 0.5, 0.0], np.float32)
    total = 0.0
    for row, real, label, weight in zip(logits, present, labels, weights, strict=True):
        if weight:
            kept = row[real]
            target = 0.9 * (np.arange(len(kept)) == label) + 0.1 / len(kept)
            total -= weight * np.sum(target * (kept - np.log(np.sum(np.exp(kept)))))
    masked = jnp.asarray(np.where(present, logits, -1e9), jnp.float32)
    loss, weight = cross_entropy(
        masked, *map(jnp.asarray, (labels, weights)), 0.1, jnp.asarray(present)
    )
    assert loss == pytest.approx(total, rel=1e-5)
    assert weight == 1.5


def kl(p, q):
    """Of the discrete distributions along the last axis."""
    return np.sum(p * np.log(p / q), axis=-1)


def test_divergences_are_half_of_both_directions():
    first, second = np.random.default_rng(0).normal(size=(2, 5, 3))
    p, q = (np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True) for x in (first, second))
    np.testing.assert_allclose(
        divergence(jnp.asarray(first), jnp.asarray(second)), (kl(p, q) + kl(q, p)) / 2, rtol=1e-4
    )
    p, q = (1 / (1 + np.exp(-np.stack([x, -x], axis=-1))) for x in (first, second))
    expected = np.mean((kl(p, q) + kl(q, p)) / 2, axis=-1)
    found = binary_divergence(jnp.asarray(first), jnp.asarray(second))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_span_cross_entropy_leaves_padding_out():
    random = np.random.default_rng(0)
    logits = random.normal(size=(3, 7, 2)).astype(np.float32)
    labels = np.array([[1, 3], [0, 0], [2, 2]])
    weights = np.array([1, 0.5, 0], np.float32)
    lengths = [7, 4, 3]
    mask = np.array([[k < length for k in range(7)] for length in lengths], np.int32)
    total = 0.0
    for row, length in enumerate(lengths):
        for side in range(2):
            real = logits[row, :length, side].astype(np.float64)
            nll = math.log(np.exp(real).sum()) - real[labels[row, side]]
            total += weights[row] * nll / 2
    found = span_cross_entropy(*map(jnp.asarray, (logits, labels, weights, mask)))
    assert found[0] == pytest.approx(total, rel=1e-5)
    assert found[1] == 1.5
    # A row that only fills a batch up is all padding.
    empty = span_cross_entropy(
        jnp.asarray(logits), jnp.asarray(labels), jnp.zeros(3), jnp.zeros((3, 7), int)
    )
    assert empty == (0, 0)
