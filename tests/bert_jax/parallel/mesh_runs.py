"""Short trainings on eight simulated devices: `python -m tests.bert_jax.parallel.mesh_runs FILE`.

A process of its own, because the number of devices is fixed when jax starts. Writes what each run
computed, for `test_sharding.py` to compare.
"""

import dataclasses
import json
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jax.sharding import use_abstract_mesh

from bert_jax.analysis.hlo import summarize
from bert_jax.layers.attention import Passes, attend
from bert_jax.layers.attention_mask import AttentionMask, Rule
from bert_jax.layers.attention_tpu import backward, forward
from bert_jax.models.bert import BertConfig
from bert_jax.objectives.pretraining import PretrainingObjective
from bert_jax.parallel.sharding import MeshConfig, make_mesh, put_batch, replicated
from bert_jax.training.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
from bert_jax.training.step import abstract_state, init_state, make_train_step
from tests.checkpoints import random_arrays

MODEL = BertConfig(
    vocab_size=96,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=4,
    intermediate_size=40,
    max_position_embeddings=12,
    initializer_range=0.3,
)
# Without clipping and from moments of 0, Adam's first moment is a tenth of the gradient.
OPTIMIZER = OptimizerConfig(learning_rate=1e-3, warmup_steps=0, max_gradient_norm=1e9)
MESHES = {
    "one": MeshConfig(1),
    "data": MeshConfig(8),
    "fsdp": MeshConfig(1, fsdp=8),
    "tensor": MeshConfig(4, tensor=2),
    "all": MeshConfig(2, fsdp=2, tensor=2),
}
# A mesh and whether rows are packed. Packing changes what a row holds, not how it is split: one
# mesh, which has every axis, stands for all.
TRAININGS = [(name, False) for name in MESHES] + [("one", True), ("all", True)]
STEPS = 3


def make_batch(seed: int, packed: bool) -> dict[str, np.ndarray]:
    """16 rows of 12 tokens; packed, two sequences in each row."""
    random = np.random.default_rng(seed)
    rows, length, slots = 16, 12, 3
    first = random.integers(4, 7, (rows, 1))
    end = random.integers(8, length + 1, (rows, 1))
    columns = np.arange(length)
    token = columns < end
    second = columns >= first
    batch = {
        "input_ids": random.integers(0, MODEL.vocab_size, (rows, length)) * token,
        "token_type_ids": np.zeros((rows, length), int) if packed else token & second,
        "attention_mask": token * (1 + second) if packed else token,
        "masked_positions": np.sort(random.integers(1, 8, (rows, slots))),
        "masked_labels": random.integers(0, MODEL.vocab_size, (rows, slots)),
    }
    if packed:
        batch["position_ids"] = np.where(second, columns - first, columns) * token
    else:
        batch["next_sentence_labels"] = random.integers(0, 2, rows)
    batch = {name: array.astype(np.int32) for name, array in batch.items()}
    return batch | {"masked_weights": np.ones((rows, slots), np.float32)}


def train(config: MeshConfig, packed: bool) -> dict[str, np.ndarray]:
    """Losses of some steps, the first gradient and the last parameters."""
    devices = jax.devices()[: config.data * config.fsdp * config.tensor]
    mesh = make_mesh(config, devices)
    objective = PretrainingObjective(MODEL, None if packed else "next_sentence")
    optimizer = make_optimizer(OPTIMIZER, learning_rate_schedule(OPTIMIZER, 10))
    shapes, _ = abstract_state(objective, optimizer, mesh)
    given = flatten_dict(random_arrays(shapes.params, 0.3), sep="/")
    state = init_state(objective, optimizer, mesh, 0, given)
    step = make_train_step(objective, optimizer, mesh, accumulation=2)
    found: dict[str, np.ndarray] = {}
    losses = []
    for number in range(STEPS):
        state, metrics = step(state, put_batch(make_batch(number, packed), mesh), 0)
        losses.append(float(metrics["loss"]))
        if number == 0:
            moment = next(each.mu for each in state.opt_state if hasattr(each, "mu"))
            gradient = jax.tree.map(lambda m: 10 * np.asarray(m), moment)
            found |= _flat("gradient", gradient)
    return found | _flat("params", jax.device_get(state.params)) | {"losses": np.array(losses)}


def _flat(name: str, tree: object) -> dict[str, np.ndarray]:
    return {
        name + jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def drawn(config: MeshConfig) -> dict[str, np.ndarray]:
    """The parameters that a run begins with, drawn on this mesh."""
    devices = jax.devices()[: config.data * config.fsdp * config.tensor]
    optimizer = make_optimizer(OPTIMIZER, learning_rate_schedule(OPTIMIZER, 10))
    state = init_state(PretrainingObjective(MODEL), optimizer, make_mesh(config, devices), seed=0)
    return _flat("drawn", jax.device_get(state.params))


def kernel(config: MeshConfig) -> dict[str, np.ndarray]:
    """Context and gradients of the TPUs' attention kernel, interpreted, with dropout."""
    devices = jax.devices()[: config.data * config.fsdp * config.tensor]
    mesh = make_mesh(config, devices)
    random = np.random.default_rng(0)
    shape = (8, 4, 8, 12)
    query, key, value = (jnp.asarray(random.normal(size=shape), jnp.float32) for _ in range(3))
    mask = AttentionMask(jnp.asarray(random.integers(1, 3, (8, 12)), jnp.int32), Rule(packed=True))
    passes = Passes(*(partial(one, interpret=True) for one in (forward, backward)))
    dropout_key = jax.random.key(0)

    def attention(*inputs: jax.Array) -> jax.Array:
        return attend(passes, *inputs, mask, dropout_key, 0.3)

    @jax.jit
    def run(*inputs: jax.Array) -> tuple[jax.Array, ...]:
        with use_abstract_mesh(mesh.abstract_mesh):
            context, gradients = jax.vjp(attention, *inputs)
            return context, *gradients(query + context)

    arrays = jax.device_put((query, key, value), replicated(mesh))
    return {f"kernel/{n}": np.asarray(each) for n, each in enumerate(run(*arrays))}


def gathers() -> dict[str, int]:
    """Bytes of the largest gather under fsdp, of the largest block and table, and of all."""
    mesh = make_mesh(MESHES["fsdp"])
    objective = PretrainingObjective(dataclasses.replace(MODEL, num_hidden_layers=2))
    optimizer = make_optimizer(OPTIMIZER, learning_rate_schedule(OPTIMIZER, 10))
    shapes, shardings = abstract_state(objective, optimizer, mesh)
    step = make_train_step(objective, optimizer, mesh)
    text = step.lower(shapes, put_batch(make_batch(0, False), mesh), 0).compile().as_text()
    sizes = {
        name: 4 * sum(leaf.size for leaf in jax.tree.leaves(part))
        for name, part in {**shapes.params["encoder"], **shapes.params}.items()
    }
    on_one_device = 4 * sum(
        np.prod(sharding.shard_shape(leaf.shape), dtype=int)
        for leaf, sharding in zip(jax.tree.leaves(shapes), jax.tree.leaves(shardings), strict=True)
    )
    return {
        "largest_gather": summarize(text).collectives["all-gather"].largest,
        "layer_in_use": max(sizes["layer_0"], sizes["embeddings"]),
        "state_on_one_device": int(on_one_device),
        "state": 4 * sum(leaf.size for leaf in jax.tree.leaves(shapes)),
    }


if __name__ == "__main__":
    arrays = {
        f"{name}/{packed}/{key}": value
        for name, packed in TRAININGS
        for key, value in train(MESHES[name], packed).items()
    }
    for name, config in MESHES.items():
        arrays |= {f"{name}/{key}": value for key, value in kernel(config).items()}
    for name in ("one", "all"):  # all axes at once
        arrays |= {f"{name}/{key}": value for key, value in drawn(MESHES[name]).items()}
    np.savez(sys.argv[1], gathers=json.dumps(gathers()), **arrays)
