"""Fine-tuning models: shapes, dropout where the original has it, no use of padding.

Their numbers are compared with `transformers` in tests/parity.
"""

import dataclasses

import jax
import numpy as np
import pytest
from flax import linen as nn

from bert_jax.models.task_heads import (
    ABSENT,
    BertForMultipleChoice,
    BertForQuestionAnswering,
    BertForRelationClassification,
    BertForSentenceScoring,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from tests.checkpoints import TINY

CONFIG = dataclasses.replace(TINY, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
MODELS = {
    "sequence": (BertForSequenceClassification(CONFIG, 3), (4, 3)),
    "token": (BertForTokenClassification(CONFIG, 5), (4, 6, 5)),
    "relation": (BertForRelationClassification(CONFIG, 3), (4, 3)),
    "question": (BertForQuestionAnswering(CONFIG), (4, 6, 2)),
    "choice": (BertForMultipleChoice(CONFIG), (4, 2)),
    "sentence": (BertForSentenceScoring(CONFIG), (4, 3)),
}


@pytest.mark.parametrize("name", MODELS)
def test_shapes_dropout_and_padding(name):
    model, shape = MODELS[name]
    size = (4, 2, 6) if name == "choice" else (4, 6)
    ids = np.random.default_rng(0).integers(5, 30, size).astype(np.int32)
    mask = np.ones_like(ids)
    mask[..., 4:] = 0
    batch = {"input_ids": ids, "token_type_ids": np.zeros_like(ids), "attention_mask": mask}
    if name == "sentence":
        batch["cls_positions"] = np.tile(np.array([0, 3, 0], np.int32), (4, 1))
    if name == "relation":
        batch["entity_positions"] = np.array([[1, 3], [3, 1], [1, 2], [2, 3]], np.int32)
    params = model.init(jax.random.key(0), batch)
    logits = model.apply(params, batch)
    assert logits.shape == shape
    assert logits.dtype == np.float32

    dropped = model.apply(params, batch, deterministic=False, rngs={"dropout": jax.random.key(1)})
    assert np.array_equal(dropped, logits) == (name == "question")

    padded = model.apply(params, batch | {"input_ids": np.where(mask, ids, 7)})
    real = (slice(None), slice(0, 4)) if name in ("token", "question") else ...
    np.testing.assert_allclose(padded[real], logits[real], atol=1e-6)


def test_a_choice_that_is_not_there_counts_for_nothing():
    model, _ = MODELS["choice"]
    ids = np.random.default_rng(1).integers(5, 30, (2, 3, 6)).astype(np.int32)
    ids[1, 2] = 0
    batch = {
        "input_ids": ids,
        "token_type_ids": np.zeros_like(ids),
        "attention_mask": (ids > 0).astype(np.int32),
    }
    params = model.init(jax.random.key(0), batch)
    logits = model.apply(params, batch)
    two = model.apply(params, {name: array[:, :2] for name, array in batch.items()})
    np.testing.assert_allclose(logits[:, :2], two, atol=1e-6)
    np.testing.assert_allclose(jax.nn.softmax(logits[1]), [*jax.nn.softmax(two[1]), 0.0], atol=1e-6)
    assert logits[0, 2] > ABSENT


def test_a_sentence_is_scored_at_its_cls_as_a_token_is():
    ids = np.random.default_rng(2).integers(5, 30, (4, 6)).astype(np.int32)
    ones = np.ones_like(ids)
    positions = np.array([[0, 2], [1, 5], [3, 0], [0, 0]], np.int32)
    batch = {"input_ids": ids, "token_type_ids": 0 * ones, "attention_mask": ones}
    tokens = BertForTokenClassification(CONFIG, 1)
    params = tokens.init(jax.random.key(0), batch)
    every = tokens.apply(params, batch)[..., 0]
    scores = BertForSentenceScoring(CONFIG).apply(params, batch | {"cls_positions": positions})
    np.testing.assert_allclose(scores, np.take_along_axis(np.array(every), positions, 1), atol=1e-6)


def test_a_relation_is_told_from_the_three_states():
    model = BertForRelationClassification(CONFIG, 3)
    ids = np.random.default_rng(1).integers(5, 30, (2, 6)).astype(np.int32)
    batch = {
        "input_ids": ids,
        "token_type_ids": np.zeros_like(ids),
        "attention_mask": np.ones_like(ids),
        "entity_positions": np.array([[1, 4], [5, 2]], np.int32),
    }
    params = nn.unbox(model.init(jax.random.key(0), batch))
    states = model.apply(
        params, batch, method=lambda m, b: m.encoder(*(b[name] for name in list(b)[:3]), True)
    )
    together = np.stack([states[0, [0, 1, 4]].ravel(), states[1, [0, 5, 2]].ravel()])
    layer = params["params"]["classifier"]
    expected = together @ layer["kernel"] + layer["bias"]
    np.testing.assert_allclose(model.apply(params, batch), expected, atol=1e-5)
