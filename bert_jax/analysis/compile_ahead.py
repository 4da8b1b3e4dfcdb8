"""Compiles a train step for a TPU that is not there, and says what the compiler makes of it.

The compiler is libtpu's own, which needs no TPU (extra `tpu`). All figures are the compiler's.
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
from bert_jax.models.flops import model_flops, peak_flops
from bert_jax.objectives.objective import BatchSize
from bert_jax.objectives.pretraining import PretrainingObjective
from bert_jax.parallel.sharding import batch_shards, bytes_per_device
from bert_jax.training.optimizer import Optimizer
from bert_jax.training.step import abstract_state, make_train_step

# Slices as Google Cloud names them, for the error message.
KNOWN = {
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


# Without these libtpu asks a metadata server which TPU it is on and waits for the answer, and keeps
# other processes from compiling at the same time.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}


class Chip(NamedTuple):
    """Facts of a chip from its data sheet.

    Attributes:
      memory: bytes of HBM.
      bandwidth: bytes per second between HBM and the chip.
      interconnect: bytes per second that it can send to other chips of its slice.
      clock: cycles per second at which its matrix units give the peak of the data sheet.
      cores: with a vector unit each, of 8 x 128 lanes that do 4 operations a cycle.
      units: number of matrix units, and rows and columns of each.
      configuration: name of the chip's configuration where libtpu has several; a v4's two cores
        count as one device, "megacore".
    """

    memory: int
    bandwidth: float
    interconnect: float
    clock: float
    cores: int
    units: tuple[int, int]
    configuration: str = "default"


CHIPS = {
    "v4": Chip(32 << 30, 1228e9, 300e9, 1.05e9, 2, (8, 128), "megacore"),
    "v5e": Chip(16 << 30, 819e9, 200e9, 1.5e9, 1, (4, 128)),
    "v5p": Chip(95 << 30, 2765e9, 600e9, 1.75e9, 2, (8, 128)),
    "v6e": Chip(32 << 30, 1640e9, 400e9, 1.75e9, 1, (4, 256)),
}


def topology_devices(name: str) -> tuple[list[jax.Device], Chip]:
    """The devices of a topology such as "v5e:4x4", "v5e-16" or "v5litepod-16", to compile for.

    Raises:
      UserError: there is no such topology, or libtpu is not installed.
    """
    name = KNOWN.get(name.replace("v5litepod-", "v5e-"), name)
    kind, _, shape = name.partition(":")
    known = ", ".join(f"{topology} ({slice_})" for slice_, topology in KNOWN.items())
    if kind not in CHIPS or not shape:
        raise UserError(f"--compile-for {name!r} is no TPU topology; known are {known}")
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "--compile-for needs the TPU compiler: make tpu-compiler, then put "
            "PYTHONPATH=.venv-tpu before this command"
        )
    jax.config.update("jax_platforms", "cpu")  # or jax would look for the TPU of this machine
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    from jax.experimental import topologies

    chip = CHIPS[kind]
    options: dict[str, Any] = {"chip_config_name": chip.configuration}
    if shape == "1x1":
        options["chips_per_host_bounds"] = (1, 1, 1)  # else a host has 2 x 2 chips
    try:
        topology = topologies.get_topology_desc(platform="tpu", topology_name=name, **options)
    except Exception as error:  # of several kinds, from within the plugin
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"--compile-for {name!r}: the compiler refuses it ({reason}); known are {known}"
        ) from None
    return list(topology.devices), chip


class DoesNotFit(UserError):
    """The step needs more memory than a chip has; the message is the compiler's."""


# Shares of what the vector and matrix units could do that a kernel is taken to reach. In the
# compiler's schedule of the attention kernels a vector unit is at 38 to 58%: see
# docs/decisions/step-speed.md. Heads of 64 fill 64 rows or columns of a matrix unit, and it is
# taken to wait half of the time.
VECTOR_EFFICIENCY = 1 / 3
FILLED, MATRIX_EFFICIENCY = 64, 1 / 2


def kernel_cycles(kernel: Kernel, chip: Chip) -> int | None:
    """Cycles of one execution of our kernel, by our own count, None where it is not ours.

    The compiler makes no estimate of it. The largest of three counts: operations of the vector
    unit, those of the matrix units and the bytes moved, with the efficiencies above.
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
    """The compiler's figures for the train step of one phase, on one chip.

    Attributes:
      parameters: their number.
      batch_per_chip: sequences.
      state: bytes of the state.
      peak: bytes of state, batch and temporary buffers.
      flops: floating-point operations by the compiler's count, of one micro-batch.
      accessed: bytes read and written, likewise.
      model_flops: by our count, of the whole step on all chips.
      seconds: the cycles at the chip's clock.
      communication: seconds that the collectives take at the data sheet's bandwidth; part of them
        passes while the chip computes. Not in `seconds` and the MFU.
      mfu: share of the chips' peak.
      summary: cycles by part, those of our kernels among them; collectives.
      kernels: cycles of our kernels, in those of the summary, by `kernel_cycles`.
      uncounted: custom kernels whose cycles nobody estimates, in no figure.
    """

    parameters: int
    batch_per_chip: float
    state: int
    peak: int
    flops: float
    accessed: float
    model_flops: float
    seconds: float
    communication: float
    mfu: float
    summary: Summary
    kernels: int
    uncounted: int


def estimate(
    objective: PretrainingObjective,
    optimizer: Optimizer,
    mesh: Mesh,
    chip: Chip,
    size: BatchSize,
    *,
    accumulation: int = 1,
) -> Estimate:
    """Compiles the train step for the devices of the mesh.

    Args:
      objective: with the model.
      optimizer: from `optimizer.make_optimizer`.
      mesh: of devices from `topology_devices`.
      chip: likewise.
      size: of a batch of an optimizer step, over all devices.
      accumulation: micro-batches per optimizer step.

    Raises:
      DoesNotFit: the step needs more memory than a chip has.
      UserError: a dimension that the mesh does not divide.
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
        objective.config,
        batch_size=size.rows,
        sequence_length=size.length,
        max_predictions=size.predictions,
    )
    seconds = sum(summary.cycles.values()) / chip.clock
    peak = peak_flops(mesh.devices.flat[0].device_kind, objective.config.dtype)
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
    """Bytes that a chip sends to others in a step, at most.

    Of an array of n bytes, n for a collective that gathers, permutes or scatters it, 2 n for an
    all-reduce, which does both.
    """
    per_byte = {"all-reduce": 2, "reduce-scatter": mesh.size}  # a result is a share of its array
    return sum(per_byte.get(kind, 1) * each.size for kind, each in summary.collectives.items())
