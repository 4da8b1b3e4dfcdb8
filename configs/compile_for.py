"""Compiles a run's train steps for a TPU that is not there, and says how they would do.

The compiler is libtpu's own, which needs no TPU (extra `tpu`). All figures are the compiler's.
"""

import importlib.util
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from bert_jax.errors import UserError
from bert_jax.flops import model_flops, peak_flops
from bert_jax.hlo import Summary, summarize
from bert_jax.optimizer import make_optimizer
from bert_jax.pretraining import PretrainingObjective
from bert_jax.sharding import batch_shards, check_batch_size, check_divides, make_mesh
from bert_jax.train import abstract_state, make_train_step
from configs.pretrain import Phase, PretrainConfig

# Slices as Google Cloud names them, for the error message.
KNOWN = {
    "v4-8": "v4:2x2x1",
    "v4-32": "v4:2x2x4",
    "v5e-16": "v5e:4x4",
    "v5e-64": "v5e:8x8",
    "v5e-256": "v5e:16x16",
    "v5p-8": "v5p:2x2x1",
    "v6e-16": "v6e:4x4",
    "v6e-256": "v6e:16x16",
}


class Chip(NamedTuple):
    """Facts of a chip from its data sheet.

    Attributes:
      memory: bytes of HBM.
      clock: cycles per second at which its matrix units give the peak of the data sheet: v4 has 8
        of 128 x 128, v5e 4, v5p 8, v6e 4 of 256 x 256.
      configuration: name of the chip's configuration where libtpu has several; a v4's two cores
        count as one device, "megacore".
    """

    memory: int
    clock: float
    configuration: str = "default"


CHIPS = {
    "v4": Chip(32 << 30, 1.05e9, "megacore"),
    "v5e": Chip(16 << 30, 1.5e9),
    "v5p": Chip(95 << 30, 1.75e9),
    "v6e": Chip(32 << 30, 1.75e9),
}


def topology_devices(name: str) -> tuple[list[jax.Device], Chip]:
    """The devices of a topology such as "v5e:4x4", to compile for.

    Raises:
      UserError: there is no such topology, or libtpu is not installed.
    """
    kind, _, shape = name.partition(":")
    known = ", ".join(f"{topology} ({slice_})" for slice_, topology in KNOWN.items())
    if kind not in CHIPS or not shape:
        raise UserError(f"--compile-for {name!r} is no TPU topology; known are {known}")
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "--compile-for needs the TPU compiler: pip install --constraint constraints.txt "
            "--editable '.[tpu]'"
        )
    jax.config.update("jax_platforms", "cpu")  # or jax would look for the TPU of this machine
    # Without it libtpu asks a metadata server which TPU it is on, and waits for the answer.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    from jax.experimental import topologies

    chip = CHIPS[kind]
    try:
        topology = topologies.get_topology_desc(
            platform="tpu", topology_name=name, chip_config_name=chip.configuration
        )
    except Exception as error:  # of several kinds, from within the plugin
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"--compile-for {name!r}: the compiler refuses it ({reason}); known are {known}"
        ) from None
    return list(topology.devices), chip


class Estimate(NamedTuple):
    """The compiler's figures for the train step of one phase, on one chip.

    Attributes:
      parameters: their number.
      batch_per_chip: sequences.
      state: bytes of the state.
      peak: bytes of state, batch and temporary buffers.
      flops: floating-point operations by the compiler's count.
      accessed: bytes read and written.
      model_flops: by our count, of the whole step on all chips.
      seconds: the estimated cycles at the chip's clock.
      mfu: share of the chips' peak.
      summary: cycles by part, collectives.
    """

    parameters: int
    batch_per_chip: float
    state: int
    peak: int
    flops: float
    accessed: float
    model_flops: float
    seconds: float
    mfu: float
    summary: Summary


def estimate(
    config: PretrainConfig, phase: Phase, devices: list[jax.Device], chip: Chip
) -> Estimate:
    """Compiles the step of a phase.

    Args:
      config: the run's; its mesh must fit the devices.
      phase: one of its phases.
      devices: from `topology_devices`.
      chip: likewise.

    Raises:
      UserError: mesh, batch and model do not fit together.
    """
    mesh = make_mesh(config.mesh, devices)
    check_divides(mesh, "heads", config.model.num_attention_heads, "model.num_attention_heads")
    accumulation = config.loop.accumulation_steps
    check_batch_size(phase.batch_size, mesh, accumulation)
    objective = PretrainingObjective(config.model, config.data.pair_objective)
    optimizer = make_optimizer(config.optimizer, config.learning_rate_schedule())
    shapes, shardings = abstract_state(objective, optimizer, mesh)
    step = make_train_step(objective, optimizer, mesh, seed=config.seed, accumulation=accumulation)
    compiled = step.lower(shapes, _batch(config, phase)).compile()  # type: ignore[attr-defined]
    memory, costs = compiled.memory_analysis(), compiled.cost_analysis()
    summary = summarize(compiled.as_text())
    flops = model_flops(
        config.model,
        batch_size=phase.batch_size,
        sequence_length=phase.sequence_length,
        max_predictions=phase.max_predictions,
    )
    seconds = sum(summary.cycles.values()) / chip.clock
    peak = peak_flops(devices[0].device_kind, config.model.dtype)
    return Estimate(
        parameters=sum(leaf.size for leaf in jax.tree.leaves(shapes.params)),
        batch_per_chip=phase.batch_size / batch_shards(mesh),
        state=sum(
            leaf.dtype.itemsize * _size(sharding.shard_shape(leaf.shape))
            for leaf, sharding in zip(
                jax.tree.leaves(shapes), jax.tree.leaves(shardings), strict=True
            )
        ),
        peak=memory.argument_size_in_bytes + memory.temp_size_in_bytes,
        flops=costs["flops"],
        accessed=costs["bytes accessed"],
        model_flops=flops,
        seconds=seconds,
        mfu=flops / seconds / peak / mesh.size if peak else float("nan"),
        summary=summary,
    )


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for each in shape:
        size *= each
    return size


def _batch(config: PretrainConfig, phase: Phase) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a batch, see `data_pipeline/filling.py`."""

    def array(*shape: int, dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((phase.batch_size, *shape), dtype)

    length, predictions = phase.sequence_length, phase.max_predictions
    batch = {
        "input_ids": array(length),
        "token_type_ids": array(length),
        "attention_mask": array(length),
        "masked_positions": array(predictions),
        "masked_labels": array(predictions),
        "masked_weights": array(predictions, dtype=jnp.float32),
    }
    if config.data.packed:
        batch["position_ids"] = array(length)
    if config.data.pair_objective:
        batch["next_sentence_labels"] = array()
    return batch


def show(console: Console, config: PretrainConfig, topology: str) -> None:
    """Compiles every phase for the topology and prints the estimates.

    Raises:
      UserError: as from `topology_devices` and `estimate`.
    """
    devices, chip = topology_devices(topology)
    console.print(f"compiling for {len(devices)} x {devices[0].device_kind}; takes minutes")
    estimates = [estimate(config, phase, devices, chip) for phase in config.phases]
    table = Table(title=f"One step on {topology}, by the compiler", title_justify="left")
    table.add_column("")
    for number in range(len(estimates)):
        table.add_column(f"phase {number}", justify="right")
    for name, cells in _rows(estimates, chip).items():
        table.add_row(name, *cells)
    console.print(table)
    console.print(
        "Cycles are the compiler's estimate without waiting for other chips; the MFU follows from "
        "them.\nNothing was run.",
        highlight=False,
    )


def _rows(estimates: list[Estimate], chip: Chip) -> dict[str, list[str]]:
    parts = sorted({part for each in estimates for part in each.summary.cycles})
    kinds = sorted({kind for each in estimates for kind in each.summary.collectives})
    rows = {
        "parameters": [f"{each.parameters:,}" for each in estimates],
        "sequences per chip": [f"{each.batch_per_chip:g}" for each in estimates],
        "state per chip": [_gib(each.state) for each in estimates],
        "peak memory per chip": [_gib(each.peak) for each in estimates],
        f"fits in {_gib(chip.memory)}": [
            "yes" if each.peak < chip.memory else "NO" for each in estimates
        ],
        "model FLOPs of the step": [f"{each.model_flops:.3g}" for each in estimates],
        "compiled FLOPs per chip": [f"{each.flops:.3g}" for each in estimates],
        "bytes accessed per chip": [f"{each.accessed:.3g}" for each in estimates],
    }
    for part in parts:
        rows[f"cycles: {part}"] = [
            _millions(each.summary.cycles.get(part, 0)) for each in estimates
        ]
    rows["cycles"] = [_millions(sum(each.summary.cycles.values())) for each in estimates]
    rows[f"ms at {chip.clock / 1e9:g} GHz"] = [f"{1e3 * each.seconds:.1f}" for each in estimates]
    rows["estimated MFU"] = [f"{each.mfu:.0%}" for each in estimates]
    for kind in kinds:
        rows[f"{kind}: number, size, largest"] = [
            f"{found.number}, {found.size / 2**20:,.1f} MiB, {found.largest / 2**20:,.1f} MiB"
            if (found := each.summary.collectives.get(kind))
            else "-"
            for each in estimates
        ]
    if any(each.summary.uncounted for each in estimates):
        rows["custom kernels without estimate"] = [
            str(sum(each.summary.uncounted.values())) for each in estimates
        ]
    return rows


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def _millions(cycles: int) -> str:
    return f"{cycles / 1e6:.1f} M"
