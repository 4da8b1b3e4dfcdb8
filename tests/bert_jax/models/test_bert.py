"""The encoder and heads against plain NumPy in float64."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import unflatten_dict

from bert_jax.errors import UserError
from bert_jax.models.bert import BertConfig, Encoder
from bert_jax.objectives.objective import evaluation_keys, training_keys
from bert_jax.objectives.pretraining import PretrainingObjective
from tests.bert_jax.models import numpy_bert


def as_float64(params):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), params)


@functools.partial(jax.jit, static_argnums=0)
def encode(objective, params, *inputs):
    """The hidden states."""
    return objective.model.apply(
        {"params": params}, *inputs, method=lambda model, *inputs: model.encoder(*inputs)
    )


def metrics_of(objective, params, batch):
    sums = jax.jit(lambda params, batch: objective.sums(params, batch, evaluation_keys(0)))(
        params, batch
    )
    weights = objective.loss_weights(batch)
    found = {name: total / weights.get(name, weight) for name, (total, weight) in sums.items()}
    return found | {"loss": sum(found[name] for name in weights)}


@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_tanh"])
def test_losses_equal_the_numpy_model(config, params, batch, hidden_act):
    config = dataclasses.replace(config, hidden_act=hidden_act)
    found = metrics_of(PretrainingObjective(config), params, batch)
    expected = numpy_bert.pretraining_loss(as_float64(params), config, batch)
    for name, value in found.items():
        assert value == pytest.approx(expected[name], rel=2e-6), name


def test_metrics_are_named_after_the_pairs(config, params, batch):
    next_sentence, order = (
        metrics_of(PretrainingObjective(config, pairs), params, batch)
        for pairs in ("next_sentence", "sentence_order")
    )
    assert order == {
        name.replace("next_sentence", "sentence_order"): value
        for name, value in next_sentence.items()
    }
    assert "sentence_order_accuracy" in order
    without = PretrainingObjective(config, pairs=None)
    kept = {name: params[name] for name in jax.eval_shape(without.init, jax.random.key(0))}
    found = metrics_of(without, kept, batch)
    assert found.keys() == {"masked_lm_loss", "masked_lm_accuracy", "loss"}
    expected = float(next_sentence["masked_lm_loss"])
    assert float(found["masked_lm_loss"]) == pytest.approx(expected, rel=1e-6)


def test_hidden_states_equal_the_numpy_model(config, params, batch, objective):
    keys = ("input_ids", "token_type_ids", "attention_mask")
    found = encode(objective, params, *(batch[key] for key in keys))
    for row in range(len(found)):
        expected = numpy_bert.encode(
            as_float64(params)["encoder"], config, *(batch[key][row] for key in keys)
        )
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-5)


def test_padding_does_not_matter(objective, params, batch):
    changed = dict(batch)
    noise = np.random.default_rng(0).integers(0, 50, batch["input_ids"].shape)
    changed["input_ids"] = np.where(batch["attention_mask"], batch["input_ids"], noise)
    before, after = (metrics_of(objective, params, b)["loss"] for b in (batch, changed))
    assert before == after


def test_initial_parameters_are_those_of_the_original():
    config = BertConfig(vocab_size=3000, hidden_size=64, num_hidden_layers=1, num_attention_heads=2)
    params = nn.unbox(jax.jit(PretrainingObjective(config).init)(jax.random.key(0)))
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = path[-1].key
        if name == "bias":
            assert not leaf.any()
        elif name == "scale":
            assert (leaf == 1).all()
        else:
            assert np.abs(leaf).max() <= 0.04
    # A normal cut at two deviations has 0.8796 of its deviation (tf.truncated_normal's too).
    embeddings = params["encoder"]["embeddings"]["word_embeddings"]
    assert np.std(embeddings) == pytest.approx(0.02 * 0.87962, rel=0.01)


def count_random_draws(function, *arguments):
    """How often a key is turned into bits, in the forward pass."""

    def count(jaxpr):
        total = 0
        for equation in jaxpr.eqns:
            total += equation.primitive.name == "random_unwrap"
            for value in equation.params.values():
                if hasattr(value, "jaxpr"):
                    total += count(value.jaxpr)
        return total

    return count(jax.make_jaxpr(function)(*arguments).jaxpr)


def test_dropout_has_its_four_places_and_no_other(with_dropout, params, batch):
    objective = PretrainingObjective(with_dropout)

    @jax.jit
    def loss(params, key):
        return objective.sums(params, batch, training_keys(key))["masked_lm_loss"][0]

    draws = count_random_draws(loss, params, jax.random.key(0))
    assert draws == 1 + 3 * with_dropout.num_hidden_layers
    same, other = (loss(params, jax.random.key(seed)) for seed in (0, 1))
    assert same == loss(params, jax.random.key(0)) != other


def test_parameters_carry_logical_axes(objective):
    boxed = jax.eval_shape(objective.init, jax.random.key(0))
    specs = nn.get_partition_spec(boxed)
    layer = specs["encoder"]["layer_0"]
    assert specs["encoder"]["embeddings"]["word_embeddings"] == jax.P("vocab", "embed")
    assert layer["attention"]["query"]["kernel"] == jax.P("embed", "heads")
    assert layer["feed_forward"]["intermediate"]["kernel"] == jax.P("embed", "mlp")
    for leaf, spec in zip(
        jax.tree.leaves(nn.unbox(boxed)),
        jax.tree.leaves(specs, is_leaf=lambda x: isinstance(x, jax.P)),
        strict=True,
    ):
        assert len(spec) == leaf.ndim


def test_bfloat16_computes_in_bfloat16_with_float32_parameters(config, params, batch):
    objective = PretrainingObjective(dataclasses.replace(config, dtype="bfloat16"))
    leaves = jax.tree.leaves(nn.unbox(jax.eval_shape(objective.init, jax.random.key(0))))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    keys = ("input_ids", "token_type_ids", "attention_mask")
    hidden = encode(objective, params, *(batch[key] for key in keys))
    assert hidden.dtype == jnp.bfloat16
    exact = metrics_of(PretrainingObjective(config), params, batch)["loss"]
    rounded = metrics_of(objective, params, batch)["loss"]
    assert rounded.dtype == jnp.float32
    assert exact != rounded
    assert rounded == pytest.approx(float(exact), rel=0.05)


def test_heads_that_do_not_divide_the_hidden_size_are_refused():
    with pytest.raises(UserError, match=r"130 .*num_attention_heads 4"):
        BertConfig(hidden_size=130, num_attention_heads=4).validate()


def test_sequences_that_share_a_row_do_not_see_each_other(config, params):
    """A packed row gives each of its sequences the hidden states that it has alone."""
    random = np.random.default_rng(0)
    lengths, length = (5, 3), 10
    sequences = [random.integers(5, config.vocab_size, (1, each)) for each in lengths]
    padding = np.zeros((1, length - sum(lengths)), int)
    row = np.concatenate([*sequences, padding], axis=1)
    mask = np.concatenate([np.full((1, n), i + 1) for i, n in enumerate(lengths)] + [padding], 1)
    positions = np.concatenate([np.arange(n)[None] for n in lengths] + [padding], axis=1)

    def encode(ids, mask, positions=None):
        return jax.jit(Encoder(config).apply, static_argnums=4)(
            {"params": params["encoder"]}, ids, np.zeros_like(ids), mask, True, positions
        )[0]

    packed = encode(row, mask, positions)
    start = 0
    for sequence in sequences:
        alone = encode(sequence, np.ones_like(sequence))
        end = start + sequence.shape[1]
        np.testing.assert_allclose(packed[start:end], alone, rtol=1e-5, atol=1e-5)
        start = end
    # The test would notice: without position_ids the second sequence is another one.
    assert np.abs(encode(row, mask)[lengths[0] : start] - alone).max() > 0.1


def test_hidden_states_at_some_positions_are_those_of_all(config, params, batch):
    """In value and gradient, and the last block does not compute the others."""
    keys = ("input_ids", "token_type_ids", "attention_mask")
    rows, length = batch["input_ids"].shape
    positions = np.random.default_rng(0).integers(0, length, (rows, 3))
    positions[:, 0] = 0

    def step(remat):
        encoder = Encoder(dataclasses.replace(config, remat=remat))

        def loss(params, positions, chosen):
            states = encoder.apply(
                {"params": params}, *(batch[key] for key in keys), positions=positions
            )
            if chosen is not None:
                states = jnp.take_along_axis(states, chosen[..., None], axis=1)
            return jnp.sum(jnp.sin(jnp.arange(states.size).reshape(states.shape)) * states)

        return jax.jit(jax.value_and_grad(loss))

    expected = step("none")(params["encoder"], None, positions)
    for remat in ("none", "dots", "block"):
        compute = step(remat)
        found = compute(params["encoder"], positions, None)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5, err_msg=remat),
            found,
            expected,
        )
        flops = [
            compute.lower(params["encoder"], *where).cost_analysis()["flops"]
            for where in ((None, positions), (positions, None))
        ]
        of_a_block = flops[0] / config.num_hidden_layers
        assert flops[1] < flops[0] - of_a_block / 2, remat


def test_rematerialisation_changes_no_gradient(with_dropout, given, batch):
    of_one_block = dataclasses.replace(with_dropout, num_hidden_layers=1)
    params = unflatten_dict(given, sep="/")

    def gradients(remat):
        """With the program that computes them."""
        objective = PretrainingObjective(dataclasses.replace(of_one_block, remat=remat))

        def loss(params):
            return objective.sums(params, batch, training_keys(jax.random.key(7)))[
                "masked_lm_loss"
            ][0]

        traced = jax.jit(jax.value_and_grad(loss)).trace(params)
        return str(traced.jaxpr), traced.lower().compile()(params)

    program, plain = gradients("none")
    assert "remat" not in program
    for remat in ("dots", "block"):
        program, again = gradients(remat)
        assert "remat" in program, remat
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6, err_msg=remat),
            again,
            plain,
        )
