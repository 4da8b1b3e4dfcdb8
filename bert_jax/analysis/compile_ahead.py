"""Compiles a train step for an absent TPU and reports what the compiler makes of it.

The compiler is libtpu's own, which needs no TPU (extra `tpu`).
"""

import importlib.util
import math
import os
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from bert_jax.analysis.hlo import Kernel, Summary, summarize
from bert_jax.errors import UserError
from bert_jax.layers.attention_tpu import VECTOR_OPERATIONS
from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.flops import model_flops, peak_flops
from bert_jax.objectives.objective import BatchSize, Objective
from bert_jax.parallel.sharding import batch_shards, bytes_per_device
from bert_jax.training.optimizer import Optimizer
from bert_jax.training.step import abstract_state, make_train_step

KNOWN = {  # Google Cloud's names of slices -> topologies
    "v5e-1": "v5e:1x1",
    "v4-8": "v4:2x2x1",
    "v4-32": "v4:2x2x4",
    "v5e-16": "v5e:4x4",
    "v5e-64": "v5e:8x8",
    "v5e-256": "v5e:16x16",
    "v5p-8": "v5p:2x2x1",
    "v6e-16": "v6e:4x4",
    "v6e-256": "v6e:16x16",
}
# Without these libtpu waits for a metadata server to say which TPU it is on, and keeps other
# processes from compiling at the same time.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}


class Chip(NamedTuple):
    """Facts of a chip from its data sheet."""

    memory: int  # bytes of HBM
    bandwidth: float  # bytes per second between HBM and the chip
    interconnect: float  # bytes per second that it can send to other chips of its slice
    clock: float  # cycles per second at which its matrix units reach the peak
    cores: int  # each with a vector unit of 8 x 128 lanes that do 4 operations per cycle
    units: tuple[int, int]  # number of matrix units, and rows (or columns) of each
    configuration: str = "default"  # libtpu's; "megacore" makes a v4's two cores one device


CHIPS = {
    "v4": Chip(32 << 30, 1228e9, 300e9, 1.05e9, 2, (8, 128), "megacore"),
    "v5e": Chip(16 << 30, 819e9, 200e9, 1.5e9, 1, (4, 128)),
    "v5p": Chip(95 << 30, 2765e9, 600e9, 1.75e9, 2, (8, 128)),
    "v6e": Chip(32 << 30, 1640e9, 400e9, 1.75e9, 1, (4, 256)),
}


def topology_devices(name: str) -> tuple[list[jax.Device], Chip]:
    """The devices of a topology such as "v5e:4x4", "v5e-16" or "v5litepod-16", to compile for."""
    name = KNOWN.get(name.replace("v5litepod-", "v5e-"), name)
    kind, _, shape = name.partition(":")
    known = ", ".join(f"{topology} ({slice_})" for slice_, topology in KNOWN.items())
    if kind not in CHIPS or not shape:
        raise UserError(f"--compile-for {name!r} is not a TPU topology; known are {known}")
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "--compile-for needs the TPU compiler: make tpu-compiler, then put "
            "PYTHONPATH=.venv-tpu before this command"
        )
    jax.config.update("jax_platforms", "cpu")  # otherwise jax would look for a TPU here
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    from jax.experimental import topologies

    chip = CHIPS[kind]
    options: dict[str, Any] = {"chip_config_name": chip.configuration}
    if shape == "1x1":
        options["chips_per_host_bounds"] = (1, 1, 1)  # by default a host has 2 x 2 chips
    try:
        topology = topologies.get_topology_desc(platform="tpu", topology_name=name, **options)
    except Exception as error:  # of several kinds, from within the plugin
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"--compile-for {name!r} is refused by the compiler ({reason}); known are {known}"
        ) from None
    return list(topology.devices), chip


class DoesNotFit(UserError):
    """The step needs more memory than a chip has; the message is the compiler's."""


# Assumed efficiencies of the vector and matrix units in a kernel. In the compiler's schedule of the
# attention kernels vector units are 38 to 58% busy: see docs/decisions/step-speed.md. Heads of 64
# fill 64 rows or columns of a matrix unit, which is assumed to wait half of the time.
VECTOR_EFFICIENCY = 1 / 3
FILLED, MATRIX_EFFICIENCY = 64, 1 / 2


def kernel_cycles(kernel: Kernel, chip: Chip) -> int | None:
    """Our own estimate of the cycles of one execution of a kernel, None if it is not ours.

    It is the largest of three: for operations of the vector unit, operations of the matrix units,
    and bytes moved.
    """
    operations = [each for name, each in VECTOR_OPERATIONS.items() if name in kernel.operation]
    if not operations:
        return None
    number, size = chip.units
    vector = kernel.exponentials * operations[0] / (chip.cores * 8 * 128 * 4) / VECTOR_EFFICIENCY
    matrix = kernel.flops / (number * 2 * size**2) / (FILLED / size * MATRIX_EFFICIENCY)
    moved = kernel.accessed / chip.bandwidth * chip.clock
    return round(max(vector, matrix, moved))


def _counted(summary: Summary, chip: Chip) -> tuple[Summary, int, int]:
    """The summary with the kernels' cycles, their sum, and the number of kernels not counted."""
    cycles = dict(summary.cycles)
    total = unknown = 0
    for kernel in summary.kernels:
        each = kernel_cycles(kernel, chip)
        if each is None:
            unknown += kernel.number
            continue
        total += kernel.number * each
        cycles[kernel.part] = cycles.get(kernel.part, 0) + kernel.number * each
    return summary._replace(cycles=cycles), total, unknown


class Estimate(NamedTuple):
    """Figures of the train step of one phase, on one chip."""

    parameters: int
    batch_per_chip: float  # sequences
    state: int  # bytes
    peak: int  # bytes of state, batch and temporary buffers
    flops: float  # of one micro-batch, by the compiler's count
    accessed: float  # bytes read and written for one micro-batch, by the compiler's count
    model_flops: float  # of the whole step on all chips, by our count
    seconds: float  # of the cycles at the chip's clock
    # Seconds of the collectives at the data sheet's bandwidth, partly hidden behind computation and
    # not included in `seconds` and `mfu`.
    communication: float
    mfu: float
    summary: Summary  # whose cycles include those of our kernels
    kernels: int  # cycles of our kernels, by `kernel_cycles`
    uncounted: int  # number of custom kernels whose cycles are unknown and in none of the figures


def estimate(
    objective: Objective,
    model: EncoderConfig,
    optimizer: Optimizer,
    mesh: Mesh,
    chip: Chip,
    size: BatchSize,
    *,
    accumulation: int = 1,
) -> Estimate:
    """Compiles the train step for a mesh of devices from `topology_devices`.

    `model` is the encoder in the objective; `size` is that of the batch of an optimizer step, over
    all devices.

    Raises:
      DoesNotFit: the step needs more memory than a chip has.
    """
    shapes, shardings = abstract_state(objective, optimizer, mesh)
    step = make_train_step(objective, optimizer, mesh, accumulation=accumulation)
    lowered = step.lower(shapes, objective.batch_shapes(size), 0)  # type: ignore[attr-defined]
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise DoesNotFit(str(error).strip().splitlines()[0]) from None
    memory, costs = compiled.memory_analysis(), compiled.cost_analysis()
    summary, kernels, uncounted = _counted(summarize(compiled.as_text()), chip)
    flops = model_flops(
        model,
        batch_size=size.rows,
        sequence_length=size.length,
        max_predictions=size.predictions,
    )
    seconds = sum(summary.cycles.values()) / chip.clock
    peak = peak_flops(mesh.devices.flat[0].device_kind, model.dtype)
    return Estimate(
        parameters=sum(leaf.size for leaf in jax.tree.leaves(shapes.params)),
        batch_per_chip=size.rows / batch_shards(mesh),
        state=bytes_per_device(shapes, shardings),
        peak=memory.argument_size_in_bytes + memory.temp_size_in_bytes,
        flops=costs["flops"],
        accessed=costs["bytes accessed"],
        model_flops=flops,
        seconds=seconds,
        communication=_sent(summary, mesh) / chip.interconnect,
        mfu=flops / seconds / peak / mesh.size if peak else math.nan,
        summary=summary,
        kernels=kernels,
        uncounted=uncounted,
    )


def _sent(summary: Summary, mesh: Mesh) -> int:
    """The most bytes that a chip sends to others in a step.

    For an array of n bytes these are n if it is gathered, permuted or scattered, and 2 n in an
    all-reduce, which scatters and gathers it.
    """
    # The result of a reduce-scatter is only a chip's share of the array.
    per_byte = {"all-reduce": 2, "reduce-scatter": mesh.size}
    return sum(per_byte.get(kind, 1) * each.size for kind, each in summary.collectives.items())
