"""The record of each architecture against its own model, and configurations that name one."""

import dataclasses
import json

import jax
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from bert_jax.errors import UserError
from bert_jax.models.registry import (
    ARCHITECTURES,
    architecture_of,
    config_from_saved,
    config_to_saved,
)
from bert_jax.objectives.pretraining import PretrainingObjective
from tests.bert_jax.conftest import TINY
from tests.toy_architecture import TOY, ToyConfig

MODELS = [(ARCHITECTURES["bert"], TINY), (TOY, ToyConfig())]


@pytest.mark.parametrize(("architecture", "config"), MODELS, ids=lambda x: getattr(x, "name", ""))
def test_paths_are_those_of_the_model(architecture, config, monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, architecture.name, architecture)
    assert architecture_of(config) is architecture
    boxed = jax.eval_shape(PretrainingObjective(config, None).init, jax.random.key(0))
    shapes = {path: x.shape for path, x in flatten_dict(nn.unbox(boxed), sep="/").items()}
    hidden, vocabulary = config.hidden_size, config.vocab_size
    assert shapes[architecture.word_table] == (vocabulary, hidden)
    assert shapes[architecture.vocabulary_bias] == (vocabulary,)
    if architecture.position_table is not None:
        assert shapes[architecture.position_table] == (config.max_position_embeddings, hidden)
    embeddings, *blocks = architecture.blocks(config)
    assert any(path.startswith(f"{embeddings}/") for path in shapes)
    assert len(blocks) == config.num_hidden_layers
    for block in blocks:
        for kernel in architecture.kernels.values():
            assert len(shapes[f"{block}/{kernel}/kernel"]) == 2
    # Each parameter has one name in transformers, and its shape there is that of ours.
    rows = list(architecture.names.rows(config))
    assert len({row.hugging_face for row in rows}) == len({row.ours for row in rows}) == len(rows)
    named = {row.ours: row.shape for row in rows}
    assert shapes == {path: named[path] for path in shapes}


def test_saved_configurations_name_their_architecture():
    saved = json.loads(json.dumps(config_to_saved(TINY)))
    assert saved["model_type"] == "bert"
    assert config_from_saved(saved) == TINY
    assert config_from_saved(dataclasses.asdict(TINY)) == TINY  # of before
    with pytest.raises(UserError, match=r"'other'.* bert$"):
        config_from_saved(saved | {"model_type": "other"})
