"""Ways to fine-tune a small part: where they start, what they compute, what they train."""

import copy
import dataclasses
import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from bert_jax.errors import UserError
from bert_jax.layers.attention import dot_product_attention
from bert_jax.layers.attention_mask import AttentionMask
from bert_jax.models.adapters import (
    check_method,
    frozen_layers,
    frozen_paths,
    merge,
    variables,
    with_prefix,
)
from bert_jax.models.bert_architecture import BERT
from bert_jax.models.config import MethodConfig, method_of
from bert_jax.models.task_heads import TaskModel
from bert_jax.objectives.finetuning import FinetuningObjective
from bert_jax.objectives.losses import cross_entropy
from bert_jax.parallel.sharding import MeshConfig, make_mesh, put_batch
from bert_jax.training.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
from bert_jax.training.step import init_state, make_train_step
from tests.bert_jax.conftest import TINY, of_one_block
from tests.bert_jax.layers.test_attention import plain
from tests.bert_jax.models.numpy_bert import encode

METHODS = {
    "full": MethodConfig(),
    "lora": MethodConfig("lora", rank=2, alpha=3.0, targets=tuple(BERT.kernels)),
    "houlsby": MethodConfig("houlsby", bottleneck=3),
    "pfeiffer": MethodConfig("pfeiffer", bottleneck=3),
    "prefix": MethodConfig("prefix", prefix_length=3),
    "bitfit": MethodConfig("bitfit"),
}


def make_batch(rows=4, length=6):
    random = np.random.default_rng(0)
    mask = (np.arange(length) < random.integers(2, length + 1, rows)[:, None]).astype(np.int32)
    return {
        "input_ids": random.integers(0, TINY.vocab_size, (rows, length)).astype(np.int32) * mask,
        "token_type_ids": random.integers(0, 2, (rows, length)).astype(np.int32) * mask,
        "attention_mask": mask,
        "labels": random.integers(0, 3, rows).astype(np.int32),
        "weights": np.ones(rows, np.float32),
    }


BATCH = make_batch()


def objective_of(name, **changes):
    return FinetuningObjective(
        TaskModel(dataclasses.replace(TINY, **changes), 3),
        lambda logits, batch, smoothing: cross_entropy(
            logits, batch["labels"], batch["weights"], smoothing
        ),
        lambda size: {
            key: jax.ShapeDtypeStruct((size.rows, *x.shape[1:]), x.dtype)
            for key, x in BATCH.items()
        },
        method=METHODS[name],
    )


@functools.cache
def _initial(name):
    # Not jitted: most operations are those of the other methods, which are compiled once.
    return nn.unbox(objective_of(name).init(jax.random.key(0)))


def init(name):
    """The initial parameters, in a tree of its own that a test may change."""
    return jax.tree.map(np.asarray, _initial(name))


@functools.partial(jax.jit, static_argnums=0)
def logits(name, params, batch):
    return objective_of(name).logits(params, batch)


def moved(params, seed=1):
    """Parameters of which none is zero or one."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: np.asarray(x) + random.normal(0, 0.3, x.shape).astype(np.float32), params
    )


@pytest.mark.parametrize("name", METHODS)
def test_the_start_is_the_base(name):
    """Exactly for LoRA, nearly for bottlenecks; a prefix takes its share of the attention."""
    base, params = init("full"), init(name)
    for path, array in flatten_dict(base, sep="/").items():
        np.testing.assert_array_equal(flatten_dict(params, sep="/")[path], array)
    expected = logits("full", base, BATCH)
    found = logits(name, params, BATCH)
    tolerance = {"houlsby": 1e-4, "pfeiffer": 1e-4, "prefix": 1.0}.get(name, 0.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    assert np.array_equal(found, expected) == (tolerance == 0)
    if name == "prefix":  # keys that nobody attends to
        keys = params["adapters"]["encoder"]
        for index in range(2):
            query = {"kernel": jnp.zeros((8, 8)), "bias": jnp.ones(8)}
            for tree in (base, params):
                tree["encoder"][f"layer_{index}"]["attention"]["query"] = query
            keys[f"layer_{index}"]["attention"]["prefix_keys"] = jnp.full((8, 3), -1e4)
        expected = logits("full", base, BATCH)
        np.testing.assert_allclose(logits("prefix", params, BATCH), expected, rtol=0, atol=1e-6)


def test_lora_against_its_formula_and_merged():
    method, params = METHODS["lora"], moved(init("lora"))
    base = copy.deepcopy({name: part for name, part in params.items() if name != "adapters"})
    for layer, small in params["adapters"]["encoder"].items():
        for path in BERT.kernels.values():
            group, name = path.split("/")
            a, b = (np.asarray(small[group][name][key]) for key in ("a", "b"))
            kernel = base["encoder"][layer][group][name]["kernel"]
            assert (a.shape[0], b.shape[1]) == kernel.shape
            assert a.shape[1] == b.shape[0] == 2
            base["encoder"][layer][group][name]["kernel"] = kernel + 3.0 / 2 * (a @ b)
    expected = logits("full", base, BATCH)
    found = logits("lora", params, BATCH)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    merged = jax.tree.map(np.asarray, merge(method, params))
    assert merged.keys() == base.keys()
    np.testing.assert_allclose(logits("full", merged, BATCH), found, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "remat"),
    [("houlsby", "none"), ("pfeiffer", "block"), ("prefix", "none"), ("prefix", "block")],
)
def test_the_encoder_with_padding_against_numpy(name, remat):
    params = moved(init(name))
    encoder = functools.partial(
        objective_of(name, remat=remat).model.apply,
        method=lambda model, batch: model.encoder(
            batch["input_ids"], batch["token_type_ids"], batch["attention_mask"]
        ),
    )
    found = jax.jit(encoder)(variables(METHODS[name], params), BATCH)
    names = ("input_ids", "token_type_ids", "attention_mask")
    for row in range(len(BATCH["input_ids"])):
        inputs = [BATCH[key][row] for key in names]
        small = params["adapters"]["encoder"]
        expected = encode(params["encoder"], TINY, *inputs, small)
        real = inputs[2] > 0
        np.testing.assert_allclose(found[row][real], expected[real], rtol=1e-4, atol=2e-5)


def test_a_prefix_in_attention_with_dropout():
    """Value and gradients against the plain formula over explicitly concatenated arrays."""
    random = np.random.default_rng(0)
    query, key, value, weights = (
        jnp.asarray(random.normal(size=(2, 3, 4, 6)), jnp.float32) for _ in range(4)
    )
    prefixes = [jnp.asarray(random.normal(size=(12, 2)), jnp.float32) for _ in range(2)]
    sequence = jnp.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
    rest = jax.random.key(0), 0.3

    def found(prefixes):
        inputs = query, *(with_prefix(x, p) for x, p in zip((key, value), prefixes, strict=True))
        context = dot_product_attention(*inputs, AttentionMask(sequence).after_prefix(2), *rest)
        return jnp.sum(weights * context)

    def expected(prefixes):
        wide = [jnp.stack([prefix.reshape(3, 4, 2)] * 2) for prefix in prefixes]
        inputs = [jnp.concatenate(pair, -1) for pair in zip(wide, (key, value), strict=True)]
        mask = jnp.concatenate([jnp.ones((2, 2), bool), sequence > 0], -1)[:, None, None, :]
        return jnp.sum(weights * plain(query, *inputs, mask, *rest))

    for one, other in zip(
        jax.tree.leaves(jax.jit(jax.value_and_grad(found))(prefixes)),
        jax.tree.leaves(jax.jit(jax.value_and_grad(expected))(prefixes)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-5)


def is_trained(name, path):
    """Written down once more, from the papers."""
    part, last = path.split("/")[0], path.split("/")[-1]
    if name == "full" or part != "encoder":
        return True
    if name == "houlsby":
        return "norm/" in path
    return name == "bitfit" and last == "bias"


@pytest.mark.parametrize("name", METHODS)
def test_only_what_should_be_is_trained(name):
    """One block on two devices that split what can be split, with two micro-batches."""
    objective = objective_of(name, num_hidden_layers=1)
    given = of_one_block(init(name))
    mesh = make_mesh(MeshConfig(data=1, fsdp=2), devices=jax.devices()[:2])
    config = OptimizerConfig(
        name="adamw",
        learning_rate=1e-2,
        warmup_steps=0,
        layer_decay=0.9,
        frozen=frozen_paths(METHODS[name], unflatten_dict(given, sep="/")),
    )
    schedule = learning_rate_schedule(config, 100)
    optimizer = make_optimizer(config, schedule, BERT.blocks(objective.model.config))
    state = init_state(objective, optimizer, mesh, 0, given)
    before = flatten_dict(jax.device_get(state.params), sep="/")
    trained = {path: array for path, array in before.items() if is_trained(name, path)}
    kept = sum(x.size for x in jax.tree.leaves(state.opt_state) if x.ndim)
    assert kept == 2 * sum(array.size for array in trained.values())
    step = make_train_step(objective, optimizer, mesh, accumulation=2)
    for _ in range(3):
        state, _ = step(state, put_batch(dict(BATCH), mesh), 0)
    after = flatten_dict(jax.device_get(state.params), sep="/")
    assert before.keys() == after.keys()
    # The gradient of a key's bias is zero but for rounding, whatever is trained.
    same = {path for path in before if before[path].tobytes() == after[path].tobytes()}
    assert same - trained.keys() == before.keys() - trained.keys()
    unmoved = {path for path in same & trained.keys() if "embeddings" not in path}
    assert unmoved == set()


def test_frozen_layers():
    blocks = BERT.blocks(TINY)
    assert frozen_layers(0, blocks) == ()
    assert frozen_layers(1, blocks) == ("encoder/embeddings", "encoder/layer_0")
    with pytest.raises(UserError, match="frozen_layers is 3; the model has 2 blocks"):
        frozen_layers(3, blocks)


@pytest.mark.parametrize("name", ["houlsby", "pfeiffer", "prefix"])
def test_layers_of_their_own_cannot_be_merged(name):
    with pytest.raises(UserError, match=f"{name} adds layers that"):
        merge(METHODS[name], init(name))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "lora", "targets": ()}, "method.targets is empty"),
        ({"name": "lora", "targets": ("key", "key")}, "method.targets is key key"),
        ({"name": "bitfit", "rank": 4}, "method.rank is for lora, but method.name is bitfit"),
        ({"bottleneck": 4}, "method.bottleneck is for houlsby and pfeiffer, but method.name is f"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(UserError, match=message):
        MethodConfig(**settings).validate()


def test_what_the_architecture_has_no_place_for():
    unknown = MethodConfig("lora", targets=("query", "pooler"))
    with pytest.raises(UserError, match=r"query pooler.* bert has query, key"):
        check_method(unknown, BERT)
    without = dataclasses.replace(BERT, name="toy", adapters={"prefix": ("x",)})
    for name, method in METHODS.items():
        check_method(method, BERT)
        if name in ("houlsby", "pfeiffer"):
            with pytest.raises(UserError, match=f"{name}.* toy .*lora, bitfit, prefix"):
                check_method(method, without)
        else:
            check_method(method, without)


def test_good_settings():
    for method in METHODS.values():
        method.validate()
        saved = json.loads(json.dumps(dataclasses.asdict(method)))
        assert method_of({"method": saved}) == method
    assert method_of({}) == MethodConfig()
