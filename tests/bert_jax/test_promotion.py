"""No two dtypes meet unless our code says so: everything of ours is traced under strict promotion.

Nothing is compiled or computed. The optimizer's update is optax's, which relies on promotion.
"""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from bert_jax.layers import attention_tpu
from bert_jax.layers.attention import Passes, attend
from bert_jax.layers.attention_mask import AttentionMask, Rule
from bert_jax.models.config import MethodConfig
from bert_jax.objectives.config import RegularizationConfig
from bert_jax.objectives.finetuning import FinetuningObjective
from bert_jax.objectives.objective import BatchSize, evaluation_keys, training_keys
from bert_jax.objectives.registry import OBJECTIVES
from bert_jax.tasks.registry import TASKS
from tests.bert_jax.conftest import TINY

DTYPES = ("float32", "bfloat16")
SIZE = BatchSize(rows=2, length=6, predictions=2)


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def model_config(dtype, **changes):
    """With all dropout, and one block: the dtypes of the next would be the same."""
    dropped = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    return dataclasses.replace(TINY, dtype=dtype, num_hidden_layers=1, **dropped, **changes)


def trace(objective, size=SIZE):
    """Initialisation, a training pass with its gradients, and an evaluation."""
    params = nn.unbox(jax.eval_shape(objective.init, jax.random.key(0)))
    batch = objective.batch_shapes(size)

    def loss(params, batch, key):
        sums = objective.sums(params, batch, training_keys(key))
        weights = objective.loss_weights(batch)
        return sum((sums[name][0] / weights[name] for name in weights), start=jnp.float32(0))

    found = jax.eval_shape(jax.value_and_grad(loss), params, batch, jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}
    sums = jax.eval_shape(objective.sums, params, batch, evaluation_keys(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(sums)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_tanh"])
@pytest.mark.parametrize(("name", "packed"), [("next_sentence", False), ("masked_lm", True)])
def test_pretraining(name, packed, hidden_act, dtype):
    config = model_config(dtype, hidden_act=hidden_act, remat="block" if packed else "none")
    trace(OBJECTIVES[name](config), SIZE._replace(packed=packed))


# Shapes of a row beside its tokens: labels, weights and positions of each kind of task.
CLASS = {"labels": ((), jnp.int32), "weights": ((), jnp.float32)}
KINDS = {
    "classify": CLASS,
    "multilabel": {"labels": ((3,), jnp.float32), "weights": ((), jnp.float32)},
    "regress": {"labels": ((), jnp.float32), "weights": ((), jnp.float32)},
    "swag": CLASS,
    "squad": {"labels": ((2,), jnp.int32), "weights": ((), jnp.float32)},
    "tag": {"labels": ((6,), jnp.int32), "weights": ((6,), jnp.float32)},
    "relate": CLASS | {"entity_positions": ((2,), jnp.int32)},
    "summarize": {
        "labels": ((4,), jnp.float32),
        "weights": ((4,), jnp.float32),
        "cls_positions": ((4,), jnp.int32),
    },
}
TOKENS = ("input_ids", "token_type_ids", "attention_mask")


def finetuning(kind, dtype, **settings):
    task = TASKS[kind]

    def batch_shapes(size):
        tokens = (4, size.length) if kind == "swag" else (size.length,)
        rows = dict.fromkeys(TOKENS, (tokens, jnp.int32)) | KINDS[kind]
        return {
            name: jax.ShapeDtypeStruct((size.rows, *shape), dtype)
            for name, (shape, dtype) in rows.items()
        }

    return FinetuningObjective(
        task.model(model_config(dtype), () if kind in ("regress", "swag") else ("a", "b", "c")),
        task.loss,
        batch_shapes,
        divergence=task.divergence,
        **settings,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_tasks(kind, dtype):
    trace(finetuning(kind, dtype, regularization=RegularizationConfig(label_smoothing=0.1)))


@pytest.mark.parametrize("kind", ["classify", "multilabel"])
def test_regularization(kind):
    regularization = RegularizationConfig(label_smoothing=0.1, r_drop=0.5, adversarial=0.5)
    trace(finetuning(kind, "bfloat16", regularization=regularization))


@pytest.mark.parametrize("name", ["lora", "houlsby", "pfeiffer", "prefix"])
def test_small_parameters(name):
    trace(finetuning("classify", "bfloat16", method=MethodConfig(name)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", [Rule(), Rule(packed=True)], ids=str)
def test_the_kernel_of_tpus(rule, dtype):
    passes = Passes(
        partial(attention_tpu.forward, interpret=True),
        partial(attention_tpu.backward, interpret=True),
    )
    array = jax.ShapeDtypeStruct((2, 2, 16, 128), dtype)
    sequence = jax.ShapeDtypeStruct((2, 128), jnp.int32)

    def loss(inputs, sequence, key):
        context = attend(passes, *inputs, AttentionMask(sequence, rule), key, 0.1)
        assert context.dtype == dtype
        return jnp.sum(context.astype(jnp.float32))

    jax.eval_shape(jax.grad(loss), [array] * 3, sequence, jax.random.key(0))
