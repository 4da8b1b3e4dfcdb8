"""The real TPU compiler on a machine without a TPU: `make compile-for-tpu` provides libtpu."""

import dataclasses

import pytest

from bert_jax.analysis.compile_ahead import estimate, topology_devices
from bert_jax.errors import UserError
from bert_jax.layers.attention_tpu import VECTOR_OPERATIONS
from bert_jax.models.bert import BertConfig
from bert_jax.objectives.objective import BatchSize
from bert_jax.objectives.pretraining import PretrainingObjective
from bert_jax.parallel.sharding import MeshConfig, make_mesh
from bert_jax.training.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer

MODEL = BertConfig(
    vocab_size=1024,
    hidden_size=128,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=512,
    dtype="bfloat16",
)


def compiled(
    mesh_config,
    batch_size,
    topology="v5e:2x2",
    model=MODEL,
    length=64,
    packed=False,
    accumulation=1,
):
    devices, chip = topology_devices(topology)
    config = OptimizerConfig()
    return estimate(
        PretrainingObjective(model, None if packed else "next_sentence"),
        model,
        make_optimizer(config, learning_rate_schedule(config, 1_000_000)),
        make_mesh(mesh_config, devices),
        chip,
        BatchSize(batch_size, length, predictions=10, packed=packed),
        accumulation=accumulation,
    )


@pytest.fixture(scope="module")
def data_parallel():
    return compiled(MeshConfig(), 64)


def test_estimate_has_every_part(data_parallel):
    assert data_parallel.batch_per_chip == 16
    for part in ("attention", "feed-forward", "norms", "heads and loss", "optimizer"):
        assert data_parallel.summary.cycles[part] > 0, part
    # Parameters and two moments in float32; the step, and the count of the schedule.
    assert data_parallel.state == 12 * data_parallel.parameters + 8
    assert data_parallel.peak > data_parallel.state
    assert 0 < data_parallel.mfu < 1
    # Gradients of all parameters are added up over the chips, in float32 or bfloat16.
    assert data_parallel.summary.collectives["all-reduce"].size >= 2 * data_parallel.parameters


@pytest.mark.parametrize(
    ("topology", "mesh", "length", "packed"),
    [
        ("v5e:2x2", MeshConfig(fsdp=2, tensor=2), 128, False),
        ("v4:2x2x1", MeshConfig(), 256, True),
        ("v6e:2x2", MeshConfig(), 1024, False),
    ],
)
def test_attention_is_the_kernel(topology, mesh, length, packed):
    """Once forward and once backward in each layer, and counted; heads of 64."""
    model = dataclasses.replace(MODEL, max_position_embeddings=1024)
    found = compiled(mesh, 8, topology, model, length, packed=packed)
    operations = [kernel.operation for kernel in found.summary.kernels]
    assert len(operations) == 4
    for name in VECTOR_OPERATIONS:
        assert sum(name in operation for operation in operations) == 2
    assert found.uncounted == 0
    assert 0 < found.kernels < found.summary.cycles["attention"]


def test_other_lengths_take_the_formula(data_parallel):
    assert data_parallel.summary.kernels == []


def test_accumulation_counts_its_loop(data_parallel):
    """Four micro-batches of 16 cost somewhat less than one of 64; one of them costs a seventh."""
    found = compiled(MeshConfig(), 64, accumulation=4)
    ours, whole = (each.summary.cycles["feed-forward"] for each in (found, data_parallel))
    assert 0.4 < ours / whole < 4


def test_fsdp_splits_the_state_and_gathers_layers(data_parallel):
    found = compiled(MeshConfig(1, fsdp=4), 64)
    assert found.state < 0.3 * data_parallel.state
    gathered = found.summary.collectives["all-gather"]
    layer = 4 * (4 * 128 * 128 + 2 * 128 * 512)
    table = 4 * 1024 * 128
    assert gathered.number >= 2
    assert gathered.largest <= max(layer, table)


def test_megacore_is_one_device():
    devices, _ = topology_devices("v4:2x2x1")
    assert len(devices) == 4


@pytest.mark.parametrize("name", ["v5e-16", "v5litepod-16", "v5e:4x4"])
def test_names_of_one_slice(name):
    devices, _ = topology_devices(name)
    assert len(devices) == 16


def test_unknown_topologies_are_refused():
    for name in ("v5e:3x3", "v9:2x2", "v5e"):
        with pytest.raises(UserError, match=r"v5e:4x4 \(v5e-16\)"):
            topology_devices(name)


def test_mesh_that_does_not_fit_is_refused():
    with pytest.raises(UserError, match="there are 4"):
        compiled(dataclasses.replace(MeshConfig(), fsdp=3), 64)
