"""Loaded parameters in another model: new pieces, more positions."""

import dataclasses

import jax
import numpy as np

from bert_jax.interchange.names import from_tensors, to_tensors
from bert_jax.interchange.resize import extend_positions, resize_vocabulary
from bert_jax.models.bert_architecture import BERT
from bert_jax.models.pretraining_heads import BertForPreTraining
from tests.checkpoints import TINY, assert_same, random_params


def logits(params, config, length=6):
    ids = np.arange(length, dtype=np.int32)[None]
    batch = {
        "input_ids": ids,
        "token_type_ids": np.zeros_like(ids),
        "attention_mask": np.ones_like(ids),
        "masked_positions": ids,
    }
    return np.asarray(jax.jit(BertForPreTraining(config).apply)({"params": params}, batch)[0])


def test_new_pieces_hardly_change_what_the_model_predicts():
    params = random_params()
    config = dataclasses.replace(TINY, vocab_size=33)
    larger = resize_vocabulary(params, BERT, 33)
    from_tensors(to_tensors(larger, "tf1", config), "tf1", config)  # every shape fits
    before, after = logits(params, TINY), logits(larger, config)
    np.testing.assert_allclose(before, after[..., :30], rtol=0, atol=1e-6)
    probabilities = np.asarray(jax.nn.softmax(after, axis=-1))
    assert probabilities[..., 30:].max() <= 1 / 30
    np.testing.assert_allclose(after[..., 30], before.mean(-1), atol=1e-6)


def test_cutting_the_vocabulary_keeps_the_first_rows():
    params = random_params()
    assert_same(resize_vocabulary(resize_vocabulary(params, BERT, 40), BERT, 30), params)
    smaller = resize_vocabulary(params, BERT, 20)
    assert smaller["masked_lm"]["bias"].shape == (20,)


def test_positions_repeat():
    params = random_params()
    longer = extend_positions(params, BERT, 40)
    old, new = (p["encoder"]["embeddings"]["position_embeddings"] for p in (params, longer))
    np.testing.assert_array_equal(new, np.concatenate([old, old, old[:8]]))
    config = dataclasses.replace(TINY, max_position_embeddings=40)
    np.testing.assert_array_equal(logits(params, TINY), logits(longer, config))
    assert logits(longer, config, length=25).shape == (1, 25, 30)
