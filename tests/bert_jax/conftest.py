"""A tiny model and a batch of the documented contract, shared so that little is compiled twice."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from bert_jax.models.bert import BertConfig
from bert_jax.objectives.pretraining import PretrainingObjective

TINY = BertConfig(
    vocab_size=50,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=12,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    initializer_range=0.3,  # large enough that every term of the model matters
)


@pytest.fixture(scope="session")
def config() -> BertConfig:
    return TINY


@pytest.fixture(scope="session")
def objective() -> PretrainingObjective:
    return PretrainingObjective(TINY)


@pytest.fixture(scope="session")
def params(objective):
    """Parameters in which no bias is zero and no scale is one."""
    params = nn.unbox(jax.jit(objective.init)(jax.random.key(0)))
    leaves, tree = jax.tree.flatten(params)
    random = np.random.default_rng(1)
    leaves = [
        np.asarray(leaf) + random.normal(0, 0.1, leaf.shape).astype(np.float32) for leaf in leaves
    ]
    return jax.tree.unflatten(tree, leaves)


@pytest.fixture(scope="session")
def shallow() -> PretrainingObjective:
    """Of one block, for tests of what surrounds the model."""
    return PretrainingObjective(dataclasses.replace(TINY, num_hidden_layers=1))


@pytest.fixture(scope="session")
def given(params) -> dict[str, np.ndarray]:
    """Parameters for `shallow`, by path: a program that draws them takes long to compile."""
    return of_one_block(params)


def of_one_block(params: Any) -> dict[str, np.ndarray]:
    """Parameters of a model of TINY's two blocks without those of the second, by path."""
    flat = flatten_dict(params, sep="/")
    return {path: array for path, array in flat.items() if "/layer_1/" not in path}


def make_batch(config: BertConfig, rows: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    """Random tokens with padding and unused prediction slots."""
    random = np.random.default_rng(seed)
    length, slots = 10, 3
    lengths = random.integers(5, length + 1, rows)
    mask = (np.arange(length) < lengths[:, None]).astype(np.int32)
    weights = (np.arange(slots) < random.integers(1, slots + 1, rows)[:, None]).astype(np.float32)
    positions = np.sort(random.integers(1, 5, (rows, slots)), axis=1)
    return {
        "input_ids": random.integers(0, config.vocab_size, (rows, length)).astype(np.int32) * mask,
        "token_type_ids": (np.arange(length) >= lengths[:, None] // 2).astype(np.int32) * mask,
        "attention_mask": mask,
        "masked_positions": (positions * weights).astype(np.int32),
        "masked_labels": random.integers(0, config.vocab_size, (rows, slots)).astype(np.int32),
        "masked_weights": weights,
        "next_sentence_labels": random.integers(0, 2, rows).astype(np.int32),
    }


@pytest.fixture(scope="session")
def batch(config):
    return make_batch(config)


@pytest.fixture(scope="session")
def with_dropout() -> BertConfig:
    return dataclasses.replace(TINY, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
