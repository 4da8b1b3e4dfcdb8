"""Fine-tuning models: shapes, dropout where the original has it, no use of padding.

Their numbers are compared with `transformers` in tests/parity.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax import linen as nn

from bert_jax.models.bert import Encoder
from bert_jax.models.task_heads import ABSENT, TaskModel
from tests.checkpoints import TINY, random_arrays

CONFIG = dataclasses.replace(
    TINY, num_hidden_layers=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
)
MODELS = {
    "sequence": (TaskModel(CONFIG, 3), (4, 3)),
    "token": (TaskModel(CONFIG, 5, "tokens"), (4, 6, 5)),
    "relation": (TaskModel(CONFIG, 3, "entities"), (4, 3)),
    "question": (TaskModel(CONFIG, 2, "tokens", 0.0, "span"), (4, 6, 2)),
    "choice": (TaskModel(CONFIG, 1), (4, 2)),
    "sentence": (TaskModel(CONFIG, 1, "sentences"), (4, 3)),
}


def init(model, batch):
    return random_arrays(jax.eval_shape(model.init, jax.random.key(0), batch), 0.5)


def apply(model, params, batch, key=None):
    """The outputs; with a key, those of training."""
    rngs = None if key is None else {"dropout": key}
    forward = jax.jit(functools.partial(model.apply, deterministic=key is None))
    return forward(params, batch, rngs=rngs)


def made_up(name):
    size = (4, 2, 6) if name == "choice" else (4, 6)
    ids = np.random.default_rng(0).integers(5, 30, size).astype(np.int32)
    mask = np.ones_like(ids)
    mask[..., 4:] = 0
    batch = {"input_ids": ids, "token_type_ids": np.zeros_like(ids), "attention_mask": mask}
    if name == "sentence":
        batch["cls_positions"] = np.tile(np.array([0, 3, 0], np.int32), (4, 1))
    if name == "relation":
        batch["entity_positions"] = np.array([[1, 3], [3, 1], [1, 2], [2, 3]], np.int32)
    return batch


@pytest.mark.parametrize("name", MODELS)
def test_shapes_dropout_and_padding(name):
    model, shape = MODELS[name]
    batch = made_up(name)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    params = init(model, batch)
    logits = apply(model, params, batch)
    assert logits.shape == shape
    assert logits.dtype == np.float32

    dropped = apply(model, params, batch, jax.random.key(1))
    assert np.array_equal(dropped, logits) == (name == "question")

    padded = apply(model, params, batch | {"input_ids": np.where(mask, ids, 7)})
    real = (slice(None), slice(0, 4)) if name in ("token", "question") else ...
    np.testing.assert_allclose(padded[real], logits[real], atol=1e-6)


# What checkpoints of all versions hold.
@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("sequence", {"encoder", "pooler", "classifier"}),
        ("token", {"encoder", "classifier"}),
        ("relation", {"encoder", "classifier"}),
        ("question", {"encoder", "span"}),
        ("choice", {"encoder", "pooler", "classifier"}),
        ("sentence", {"encoder", "classifier"}),
    ],
)
def test_the_parameters_keep_their_names(name, layers):
    model, shape = MODELS[name]
    batch = made_up(name)
    params = nn.unbox(jax.eval_shape(model.init, jax.random.key(0), batch)["params"])
    assert set(params) == layers
    last = "span" if name == "question" else "classifier"
    width = 3 * CONFIG.hidden_size if name == "relation" else CONFIG.hidden_size
    outputs = 1 if name in ("choice", "sentence") else shape[-1]
    assert params[last]["kernel"].shape == (width, outputs)
    assert params[last]["bias"].shape == (outputs,)


def test_a_choice_that_is_not_there_counts_for_nothing():
    model, _ = MODELS["choice"]
    ids = np.random.default_rng(1).integers(5, 30, (2, 3, 6)).astype(np.int32)
    ids[1, 2] = 0
    batch = {
        "input_ids": ids,
        "token_type_ids": np.zeros_like(ids),
        "attention_mask": (ids > 0).astype(np.int32),
    }
    params = init(model, batch)
    logits = apply(model, params, batch)
    two = apply(model, params, {name: array[:, :2] for name, array in batch.items()})
    np.testing.assert_allclose(logits[:, :2], two, atol=1e-6)
    np.testing.assert_allclose(jax.nn.softmax(logits[1]), [*jax.nn.softmax(two[1]), 0.0], atol=1e-6)
    assert logits[0, 2] > ABSENT


def test_a_sentence_is_scored_at_its_cls_as_a_token_is():
    ids = np.random.default_rng(2).integers(5, 30, (4, 6)).astype(np.int32)
    ones = np.ones_like(ids)
    positions = np.array([[0, 2], [1, 5], [3, 0], [0, 0]], np.int32)
    batch = {"input_ids": ids, "token_type_ids": 0 * ones, "attention_mask": ones}
    tokens = TaskModel(CONFIG, 1, "tokens")
    params = init(tokens, batch)
    every = apply(tokens, params, batch)[..., 0]
    scores = apply(TaskModel(CONFIG, 1, "sentences"), params, batch | {"cls_positions": positions})
    np.testing.assert_allclose(scores, np.take_along_axis(np.array(every), positions, 1), atol=1e-6)


def test_a_relation_is_told_from_the_three_states():
    model = TaskModel(CONFIG, 3, "entities")
    ids = np.random.default_rng(1).integers(5, 30, (2, 6)).astype(np.int32)
    batch = {
        "input_ids": ids,
        "token_type_ids": np.zeros_like(ids),
        "attention_mask": np.ones_like(ids),
        "entity_positions": np.array([[1, 4], [5, 2]], np.int32),
    }
    params = init(model, batch)
    states = jax.jit(Encoder(CONFIG).apply)(
        {"params": params["params"]["encoder"]}, *list(batch.values())[:3]
    )
    together = np.stack([states[0, [0, 1, 4]].ravel(), states[1, [0, 5, 2]].ravel()])
    layer = params["params"]["classifier"]
    expected = together @ layer["kernel"] + layer["bias"]
    np.testing.assert_allclose(apply(model, params, batch), expected, atol=1e-5)
