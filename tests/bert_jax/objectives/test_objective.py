"""What is random, what batches hold and how metrics are called, of every objective by its name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.objectives.objective import BatchSize, evaluation_keys, training_keys
from bert_jax.objectives.registry import OBJECTIVES
from tests.bert_jax.conftest import TINY, make_batch


def words(key):
    return jax.random.key_data(key).tolist()


def test_a_step_drops_by_its_own_key_and_samples_by_another():
    step = jax.random.key(3)
    keys, others = training_keys(step), training_keys(jax.random.key(4))
    assert words(keys.dropout) == words(step)
    assert words(keys.sampling) not in (words(step), words(others.sampling))


def test_evaluation_samples_the_same_again_and_drops_nothing():
    keys, again, other = evaluation_keys(2), evaluation_keys(2), evaluation_keys(3)
    assert keys.dropout is None
    assert words(keys.sampling) == words(again.sampling) != words(other.sampling)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_shapes_and_metrics_are_those_of_its_batches(name):
    objective = OBJECTIVES[name](TINY)
    batch = make_batch(TINY)
    if name == "masked_lm":
        batch.pop("next_sentence_labels")
    found = objective.batch_shapes(BatchSize(rows=8, length=10, predictions=3))
    assert found == {
        name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in batch.items()
    }
    params = jax.eval_shape(objective.init, jax.random.key(0))
    sums = jax.eval_shape(objective.sums, params, batch, evaluation_keys(0))
    assert sums.keys() == objective.metrics.keys()
    assert objective.loss_weights(batch).keys() <= objective.metrics.keys()


def test_packed_rows_have_positions():
    found = OBJECTIVES["masked_lm"](TINY).batch_shapes(BatchSize(4, 12, 3, packed=True))
    assert found["position_ids"] == jax.ShapeDtypeStruct((4, 12), jnp.int32)


def test_a_constant_answer_to_pairs_is_right_half_of_the_time():
    for name in ("next_sentence", "sentence_order"):
        constants = {k: m.of_a_constant for k, m in OBJECTIVES[name](TINY).metrics.items()}
        assert constants.pop(f"{name}_accuracy") == np.mean([0, 1])
        assert set(constants.values()) == {None}
