"""The fine-tuning objective against formulas written out, and prediction in any order."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.models.bert import BertConfig
from bert_jax.models.task_heads import TaskModel
from bert_jax.objectives.finetuning import (
    FinetuningObjective,
    RegularizationConfig,
    make_predict_step,
    predict,
)
from bert_jax.objectives.losses import cross_entropy
from bert_jax.objectives.objective import evaluation_keys, training_keys
from bert_jax.parallel.sharding import make_mesh
from tests.checkpoints import random_arrays

CONFIG = BertConfig(
    vocab_size=20,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=8,
    initializer_range=0.5,
)


def made_up(rows=4, length=6):
    source = np.random.default_rng(0)
    return {
        "input_ids": source.integers(0, 20, (rows, length), dtype=np.int32),
        "token_type_ids": np.zeros((rows, length), np.int32),
        "attention_mask": np.ones((rows, length), np.int32),
        "labels": source.integers(0, 3, rows, dtype=np.int32),
        "weights": np.array([1.0, 2.0, 0.0, 0.5], np.float32)[:rows],
    }


BATCH = made_up()


def objective(**regularization):
    shapes = {k: jax.ShapeDtypeStruct((1, *v.shape[1:]), v.dtype) for k, v in BATCH.items()}
    return FinetuningObjective(
        TaskModel(CONFIG, 3),
        lambda logits, batch, smoothing: cross_entropy(
            logits, batch["labels"], batch["weights"], smoothing
        ),
        lambda size: shapes,
        RegularizationConfig(**regularization),
    )


PARAMS = random_arrays(jax.eval_shape(objective().init, jax.random.key(0)), 0.5)
KEY = jax.random.key(7)
KEYS = training_keys(KEY)


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def expected_loss(logits, smoothing=0.0):
    target = np.eye(3)[BATCH["labels"]] * (1 - smoothing) + smoothing / 3
    return -np.sum(BATCH["weights"] * (target * log_softmax(logits)).sum(axis=-1))


def loss_of(the_objective, keys=KEYS):
    total, weight = jax.jit(the_objective.sums)(PARAMS, BATCH, keys)["loss"]
    assert float(weight) == pytest.approx(3.5)
    return float(total)


def test_the_loss_weighs_rows_and_evaluation_is_plain():
    logits = jax.jit(objective().logits)(PARAMS, BATCH)
    smoothed = objective(label_smoothing=0.1, r_drop=1.0, adversarial=1.0)
    assert loss_of(smoothed, evaluation_keys(0)) == pytest.approx(expected_loss(logits), rel=1e-5)
    assert float(objective().loss_weights(BATCH)["loss"]) == pytest.approx(3.5)


def test_label_smoothing_spreads_the_target():
    logits = jax.jit(objective().logits)(PARAMS, BATCH, KEY)
    found = loss_of(objective(label_smoothing=0.2))
    assert found == pytest.approx(expected_loss(logits, 0.2), rel=1e-5)


def test_r_drop_adds_the_divergence_of_two_passes():
    first, second = (
        jax.jit(objective().logits)(PARAMS, BATCH, key) for key in jax.random.split(KEY)
    )
    assert np.abs(first - second).max() > 1e-3
    p, q = log_softmax(first), log_softmax(second)
    both_ways = (np.exp(p) * (p - q)).sum(axis=-1) + (np.exp(q) * (q - p)).sum(axis=-1)
    expected = (expected_loss(first) + expected_loss(second)) / 2
    expected += 0.7 * np.sum(BATCH["weights"] * both_ways / 2)
    assert loss_of(objective(r_drop=0.7)) == pytest.approx(expected, rel=1e-4)


def test_r_drop_takes_the_divergence_that_is_given():
    given = dataclasses.replace(
        objective(r_drop=0.7), divergence=lambda p, q: jnp.sum(jnp.abs(p - q), axis=-1)
    )
    first, second = (
        jax.jit(objective().logits)(PARAMS, BATCH, key) for key in jax.random.split(KEY)
    )
    expected = (expected_loss(first) + expected_loss(second)) / 2
    expected += 0.7 * np.sum(BATCH["weights"] * np.abs(first - second).sum(axis=-1))
    assert loss_of(given) == pytest.approx(expected, rel=1e-4)


def test_adversarial_adds_the_loss_of_moved_embeddings():
    def loss_and_gradient(of):
        compute = jax.jit(
            jax.value_and_grad(lambda params: of.sums(params, BATCH, KEYS)["loss"], has_aux=True)
        )

        def at(params):
            (loss, weight), gradient = jax.device_get(compute(params))
            assert float(weight) == pytest.approx(3.5)
            return loss, gradient

        return at

    plain = loss_and_gradient(objective())
    loss, gradient = plain(PARAMS)
    step = gradient["encoder"]["embeddings"]["word_embeddings"]
    moved = jax.tree.map(np.copy, PARAMS)
    moved["encoder"]["embeddings"]["word_embeddings"] += 0.5 * step / np.linalg.norm(step)
    loss_there, gradient_there = plain(moved)
    assert loss_there > loss + 0.01
    found, gradient_found = loss_and_gradient(objective(adversarial=0.5))(PARAMS)
    assert float(found) == pytest.approx(float(loss + loss_there), rel=1e-5)
    # The step is a constant: the gradient is that of both losses where they are.
    both = jax.tree.map(np.add, gradient, gradient_there)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), gradient_found, both)


def test_predictions_come_back_in_order_and_filled_up_rows_do_not_count():
    mesh = make_mesh(devices=jax.devices()[:1])
    rows = made_up(3)

    def taken(numbers):
        batch = {k: np.zeros((2, *v.shape[1:]), v.dtype) for k, v in rows.items()}
        for place, number in enumerate(numbers):
            for name in batch:
                batch[name][place] = rows[name][number]
        return np.array(numbers), batch

    step = make_predict_step(objective(), mesh)
    logits, loss = predict(step, PARAMS, [taken([2]), taken([1, 0])], mesh)
    expected = jax.jit(objective().logits)(PARAMS, rows)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    weights = BATCH["weights"][:3]
    nll = -log_softmax(expected)[np.arange(3), rows["labels"]]
    assert loss == pytest.approx(np.sum(weights * nll) / 3.0, rel=1e-5)
