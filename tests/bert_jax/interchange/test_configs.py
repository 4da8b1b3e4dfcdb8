"""Configurations of others: what is read, and what is refused by its name."""

import dataclasses

import pytest

from bert_jax.errors import UserError
from bert_jax.interchange.configs import config_from_hugging_face, config_to_hugging_face
from bert_jax.models.bert import BertConfig
from bert_jax.models.bert_names import config_from_tf1
from tests.checkpoints import TINY


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh"])
def test_hugging_face_there_and_back(activation):
    config = dataclasses.replace(TINY, hidden_act=activation, layer_norm_eps=1e-6)
    assert config_from_hugging_face(config_to_hugging_face(config)) == config


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("gelu", "gelu"), ("gelu_new", "gelu_tanh"), ("gelu_pytorch_tanh", "gelu_tanh")],
)
def test_activations(theirs, ours):
    assert config_from_hugging_face({"hidden_act": theirs}).hidden_act == ours


def test_defaults_are_those_of_bert_base():
    assert config_from_hugging_face({"model_type": "bert"}) == BertConfig()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "roberta"}, "model type is 'roberta'.*only 'bert'.*RoBERTa"),
        ({"model_type": "deberta-v2"}, "'deberta-v2'"),
        ({"model_type": "albert"}, "'albert'"),
        ({"model_type": "distilbert"}, "'distilbert'"),
        ({"architectures": ["RobertaModel"]}, "'RobertaModel'"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'; known are gelu, .*gelu_new"),
        ({"hidden_act": ["gelu"]}, "hidden_act is \\['gelu'\\]; known are"),
        ({"architectures": 5}, "architectures is 5; it must be a list of names"),
        ({"architectures": [5]}, "architectures is .5.; it must be a list of names"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"hidden_size": "768"}, "hidden_size is '768'; it must be of type int"),
        ({"hidden_size": 10, "num_attention_heads": 3}, "not divisible"),
    ],
)
def test_what_is_not_ours_is_refused_in_one_line(values, message):
    with pytest.raises(UserError, match=message) as caught:
        config_from_hugging_face(values)
    assert "\n" not in str(caught.value)


def test_tf1_leaves_the_form_of_gelu_to_the_caller():
    values = {"vocab_size": 100, "hidden_act": "gelu", "pooler_type": "first_token_transform"}
    assert config_from_tf1(values, "erf").hidden_act == "gelu"
    assert config_from_tf1(values, "tanh").hidden_act == "gelu_tanh"
    assert config_from_tf1(values, "erf").type_vocab_size == 16  # as in the original
    with pytest.raises(UserError, match="hidden_act is 'relu'"):
        config_from_tf1(values | {"hidden_act": "relu"}, "erf")
    with pytest.raises(UserError, match="no vocab_size"):
        config_from_tf1({}, "erf")
