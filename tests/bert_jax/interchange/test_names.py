"""The name table: both directions, exact to the bit, and clear about what does not fit."""

import dataclasses
import re

import jax
import ml_dtypes
import numpy as np
import pytest
from flax import linen as nn

from bert_jax.errors import UserError
from bert_jax.interchange.names import PART_NAMES, from_tensors, to_tensors
from bert_jax.models.bert_names import NAMES
from bert_jax.objectives.pretraining import PretrainingObjective
from tests.checkpoints import TINY, assert_same, random_params, tf1_tensors

LAYOUTS = ("hugging_face", "tf1")


@pytest.fixture
def params():
    return random_params()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_there_and_back_is_exact(params, layout):
    tensors = to_tensors(params, layout, TINY)
    result = from_tensors(tensors, layout, TINY)
    assert_same(result.params, params)
    assert result.missing == result.unused == ()
    assert len(tensors) == len(jax.tree.leaves(params))


def test_the_table_has_every_parameter_of_the_model_and_its_shape(params):
    shapes = nn.unbox(jax.eval_shape(PretrainingObjective(TINY).init, jax.random.key(0)))
    assert jax.tree.map(lambda x: x.shape, shapes) == jax.tree.map(lambda x: x.shape, params)
    from_tensors(to_tensors(params, "tf1", TINY), "tf1", TINY)  # raises where a shape differs
    rows = list(NAMES.rows(TINY))
    for field in ("ours", "hugging_face", "tf1"):
        names = [getattr(row, field) for row in rows]
        assert len(set(names)) == len(names)
    assert {row.ours.split("/")[0] for row in rows} == set(PART_NAMES)
    assert set().union(*NAMES.classes.values()) == set(PART_NAMES)


def test_names_and_orientation(params):
    """A few written out by hand, so that the table is not only its own inverse."""
    hugging_face, tf1 = (to_tensors(params, layout, TINY) for layout in LAYOUTS)
    kernel = params["encoder"]["layer_1"]["feed_forward"]["intermediate"]["kernel"]
    assert kernel.shape == (8, 12)
    np.testing.assert_array_equal(tf1["bert/encoder/layer_1/intermediate/dense/kernel"], kernel)
    np.testing.assert_array_equal(
        hugging_face["bert.encoder.layer.1.intermediate.dense.weight"], kernel.T
    )
    kernel = params["next_sentence_head"]["classifier"]["kernel"]
    np.testing.assert_array_equal(tf1["cls/seq_relationship/output_weights"], kernel.T)
    np.testing.assert_array_equal(hugging_face["cls.seq_relationship.weight"], kernel.T)
    scale = params["encoder"]["layer_0"]["attention_norm"]["scale"]
    np.testing.assert_array_equal(
        tf1["bert/encoder/layer_0/attention/output/LayerNorm/gamma"], scale
    )
    np.testing.assert_array_equal(hugging_face["cls.predictions.bias"], params["masked_lm"]["bias"])


def test_old_and_bare_names_and_tied_copies_of_hugging_face(params):
    tensors = to_tensors(params, "hugging_face", TINY)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in tensors.items()
    }
    old["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"]
    old["cls.predictions.decoder.bias"] = old.pop("cls.predictions.bias")
    old["bert.embeddings.position_ids"] = np.arange(16)[None]
    result = from_tensors(old, "hugging_face", TINY)
    assert_same(result.params, params)
    assert result.unused == ()

    bare = {
        name.removeprefix("bert."): tensor
        for name, tensor in tensors.items()
        if name.startswith("bert.")
    }
    result = from_tensors(bare, "hugging_face", TINY)
    assert_same(result.params, {part: params[part] for part in ("encoder", "pooler")})
    assert result.missing == ("masked-LM head", "next-sentence head")


def test_an_output_that_is_not_tied_is_refused(params):
    tensors = to_tensors(params, "hugging_face", TINY)
    copy = tensors["bert.embeddings.word_embeddings.weight"].copy()
    copy[3, 3] += 1
    tensors["cls.predictions.decoder.weight"] = copy
    with pytest.raises(UserError, match=r"decoder\.weight differs from bert\.emb.*not tied"):
        from_tensors(tensors, "hugging_face", TINY)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_widened_exactly(params, dtype):
    narrow = jax.tree.map(lambda x: x.astype(dtype), params)
    result = from_tensors(to_tensors(narrow, "hugging_face", TINY), "hugging_face", TINY)
    assert_same(result.params, jax.tree.map(lambda x: x.astype(np.float32), narrow))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_does_not_fit_is_listed_with_its_shape(params, layout):
    tensors = to_tensors(params, layout, TINY)
    query, extra = {
        "tf1": ("bert/encoder/layer_1/attention/self/query/kernel", "bert/encoder/layer_2/x"),
        "hugging_face": (
            "bert.encoder.layer.1.attention.self.query.weight", "bert.encoder.layer.2.x",
        ),
    }[layout]  # fmt: skip
    words = next(name for name in tensors if "word_embeddings" in name)
    types = next(name for name in tensors if "token_type_embeddings" in name)
    del tensors[query]
    tensors[words] = tensors[words][:-1]
    tensors[types] = tensors[types].astype(np.float64)
    tensors[extra] = np.zeros((2, 3), np.float32)
    with pytest.raises(UserError) as caught:
        from_tensors(tensors, layout, TINY)
    message = str(caught.value)
    assert f"missing: {query} [8, 8]" in message
    assert f"misshapen: {words} [29, 8] instead of [30, 8]" in message
    assert f"not float32, float16 or bfloat16: {types} float64" in message
    assert f"not known: {extra} [2, 3]" in message
    assert "\n" not in message


def test_a_head_is_whole_or_absent(params):
    tensors = to_tensors(params, "tf1", TINY)
    del tensors["cls/predictions/output_bias"]
    with pytest.raises(UserError, match=re.escape("missing: cls/predictions/output_bias [30]")):
        from_tensors(tensors, "tf1", TINY)


def test_the_wrong_number_of_layers_is_refused(params):
    tensors = to_tensors(params, "hugging_face", TINY)
    with pytest.raises(UserError, match=r"not known: bert\.encoder\.layer\.1.* and 4 more"):
        from_tensors(tensors, "hugging_face", dataclasses.replace(TINY, num_hidden_layers=1))
    with pytest.raises(UserError, match=r"missing: bert\.encoder\.layer\.2"):
        from_tensors(tensors, "hugging_face", dataclasses.replace(TINY, num_hidden_layers=3))
    many = dataclasses.replace(TINY, num_hidden_layers=10**12)  # no list of them is made
    with pytest.raises(UserError, match=r"num_hidden_layers is 1,000,000,000,000, .* 46 ten"):
        from_tensors(tensors, "hugging_face", many)


def test_foreign_heads_are_named_as_unused(params):
    tensors = to_tensors(params, "hugging_face", TINY)
    tensors |= {"crf.transitions": np.zeros((3, 3), np.float32)}
    assert from_tensors(tensors, "hugging_face", TINY).unused == ("crf.transitions",)


def test_optimizer_variables_are_no_parameters(params):
    tensors = tf1_tensors(params, (params, params), step=3)
    result = from_tensors(tensors, "tf1", TINY)
    assert result.unused == ()
    assert_same(result.params, params)


def test_classifiers_of_the_original(params):
    """run_classifier.py: `output_weights` [labels, H] without a scope."""
    tensors = to_tensors({"encoder": params["encoder"]}, "tf1", TINY)
    weights = np.arange(24, dtype=np.float32).reshape(3, 8)
    tensors |= {"output_weights": weights, "output_bias": np.zeros(3, np.float32)}
    result = from_tensors(tensors, "tf1", TINY)
    np.testing.assert_array_equal(result.params["classifier"]["kernel"], weights.T)
    assert result.missing == ("pooler", "masked-LM head", "next-sentence head")
