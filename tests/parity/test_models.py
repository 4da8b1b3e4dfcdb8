"""Our models against those of `transformers`: outputs, loss and gradients of every parameter."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax import linen as nn

from bert_jax.interchange.configs import config_to_hugging_face
from bert_jax.interchange.names import from_tensors, to_tensors
from bert_jax.models.bert import BertConfig, Encoder, Pooler
from bert_jax.models.bert_names import NAMES
from bert_jax.models.pretraining_heads import BertForPreTraining
from bert_jax.models.task_heads import TaskModel
from bert_jax.objectives.objective import evaluation_keys
from bert_jax.objectives.pretraining import PretrainingObjective

TINY = BertConfig(
    vocab_size=60,
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=40,
    max_position_embeddings=16,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    initializer_range=0.2,  # large enough that every term of the model matters
)
ROWS, LENGTH = 6, 14
TOLERANCE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(params=["gelu", "gelu_tanh"])
def config(request) -> BertConfig:
    return dataclasses.replace(TINY, hidden_act=request.param)


def theirs(config: BertConfig, architecture: str, **values) -> torch.nn.Module:
    """A model of `transformers` with random parameters, biases and scales too."""
    torch.manual_seed(0)
    hf_config = transformers.BertConfig(
        **(config_to_hugging_face(config) | values), attn_implementation="eager"
    )
    model = getattr(transformers, architecture)(hf_config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def converted(model: torch.nn.Module, config: BertConfig):
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return from_tensors(tensors, "hugging_face", config)


def inputs(*shape: int) -> dict[str, np.ndarray]:
    """Random tokens, two segments, padding."""
    random = np.random.default_rng(2)
    lengths = random.integers(4, shape[-1] + 1, (*shape[:-1], 1))
    mask = (np.arange(shape[-1]) < lengths).astype(np.int32)
    return {
        "input_ids": random.integers(1, TINY.vocab_size, shape).astype(np.int32) * mask,
        "token_type_ids": (np.arange(shape[-1]) >= lengths // 2).astype(np.int32) * mask,
        "attention_mask": mask,
    }


def to_torch(batch: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(array).long() for name, array in batch.items()}


def test_hidden_states_and_pooled_output(config):
    model = theirs(config, "BertModel")
    params = converted(model, config).params
    batch = inputs(ROWS, LENGTH)
    with torch.no_grad():
        expected = model(**to_torch(batch), output_hidden_states=True)
    hidden = batch | {}
    for layers in range(config.num_hidden_layers + 1):
        shallow = dataclasses.replace(config, num_hidden_layers=layers)
        hidden = Encoder(shallow).apply({"params": params["encoder"]}, *batch.values())
        np.testing.assert_allclose(hidden, expected.hidden_states[layers].numpy(), **TOLERANCE)
    pooled = Pooler(config).apply({"params": params["pooler"]}, hidden)
    np.testing.assert_allclose(pooled, expected.pooler_output.numpy(), **TOLERANCE)


def test_pretraining_logits_loss_and_gradients(config):
    model = theirs(config, "BertForPreTraining")
    # Otherwise the look-up of [PAD] would give no gradient, which the original does not do.
    model.bert.embeddings.word_embeddings.padding_idx = None
    params = converted(model, config).params
    random = np.random.default_rng(3)
    slots = 3
    batch = inputs(ROWS, LENGTH)
    # The first tokens are never padding; one prediction slot of every second row is unused.
    positions = np.tile(np.array([1, 2, 3], np.int32), (ROWS, 1))
    weights = np.ones((ROWS, slots), np.float32)
    weights[::2, -1], positions[::2, -1] = 0, 0
    labels = random.integers(1, config.vocab_size, (ROWS, slots)).astype(np.int32)
    ours = batch | {
        "masked_positions": positions,
        "masked_labels": labels * weights.astype(np.int32),
        "masked_weights": weights,
        "next_sentence_labels": random.integers(0, 2, ROWS).astype(np.int32),
    }
    token_labels = np.full((ROWS, LENGTH), -100)
    for row in range(ROWS):
        for slot in np.flatnonzero(weights[row]):
            token_labels[row, positions[row, slot]] = labels[row, slot]
    expected = model(
        **to_torch(batch),
        labels=torch.tensor(token_labels),
        next_sentence_label=torch.tensor(ours["next_sentence_labels"]).long(),
    )
    expected.loss.backward()

    outputs = BertForPreTraining(config).apply({"params": params}, ours)
    gathered = np.take_along_axis(
        expected.prediction_logits.detach().numpy(), positions[..., None], axis=1
    )
    np.testing.assert_allclose(outputs.masked_lm_logits, gathered, **TOLERANCE)
    np.testing.assert_allclose(
        outputs.next_sentence_logits, expected.seq_relationship_logits.detach().numpy(), **TOLERANCE
    )

    objective = PretrainingObjective(config)

    @jax.jit
    def loss(params):
        sums = objective.sums(params, ours, evaluation_keys(0))
        return sum(
            sums[name][0] / sums[name][1] for name in ("masked_lm_loss", "next_sentence_loss")
        )

    value, gradients = jax.value_and_grad(loss)(params)
    np.testing.assert_allclose(value, expected.loss.item(), **TOLERANCE)
    ours_named = to_tensors(jax.device_get(gradients), "hugging_face", TINY)
    named = {name: p.grad.numpy() for name, p in model.named_parameters()}
    assert ours_named.keys() == named.keys()
    for name, gradient in named.items():
        np.testing.assert_allclose(ours_named[name], gradient, **TOLERANCE, err_msg=name)
        assert np.abs(gradient).max() > (0 if "attention.self.key.bias" in name else 1e-4), name


@pytest.mark.parametrize(
    ("architecture", "ours"),
    [
        ("BertForSequenceClassification", TaskModel(TINY, 5)),
        ("BertForTokenClassification", TaskModel(TINY, 5, "tokens")),
        ("BertForQuestionAnswering", TaskModel(TINY, 2, "tokens", 0.0, "span")),
        ("BertForMultipleChoice", TaskModel(TINY, 1)),
    ],
)
def test_fine_tuning_models(architecture, ours):
    choices = (2,) if architecture == "BertForMultipleChoice" else ()
    batch = inputs(ROWS, *choices, LENGTH)
    labels = {} if architecture in ("BertForQuestionAnswering",) else {"num_labels": 5}
    model = theirs(TINY, architecture, **labels)
    result = converted(model, TINY)
    assert set(result.params) == set(NAMES.classes[architecture])
    assert result.unused == ()
    fresh = nn.unbox(jax.eval_shape(ours.init, jax.random.key(0), batch)["params"])
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, result.params)
    with torch.no_grad():
        expected = model(**to_torch(batch))
    logits = jax.jit(ours.apply)({"params": result.params}, batch)
    if architecture == "BertForQuestionAnswering":
        reference = torch.stack([expected.start_logits, expected.end_logits], dim=-1)
    else:
        reference = expected.logits
    np.testing.assert_allclose(logits, reference.numpy(), **TOLERANCE)
