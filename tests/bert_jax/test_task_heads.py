"""Fine-tuning models: shapes, dropout where the original has it, no use of padding.

Their numbers are compared with `transformers` in tests/parity.
"""

import dataclasses

import jax
import numpy as np
import pytest
from flax import linen as nn

from bert_jax.task_heads import (
    BertForMultipleChoice,
    BertForQuestionAnswering,
    BertForRelationClassification,
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
}


@pytest.mark.parametrize("name", MODELS)
def test_shapes_dropout_and_padding(name):
    model, shape = MODELS[name]
    size = (4, 2, 6) if name == "choice" else (4, 6)
    ids = np.random.default_rng(0).integers(5, 30, size).astype(np.int32)
    mask = np.ones_like(ids)
    mask[..., 4:] = 0
    batch = {"input_ids": ids, "token_type_ids": np.zeros_like(ids), "attention_mask": mask}
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
