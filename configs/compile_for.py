"""`--compile-for`: how a run would do on a TPU that is not there."""

import math

from rich.console import Console
from rich.table import Table

from bert_jax.compile_ahead import Chip, DoesNotFit, Estimate, estimate, topology_devices
from bert_jax.optimizer import make_optimizer
from bert_jax.pretraining import PretrainingObjective
from bert_jax.sharding import batch_shards
from configs.pretrain import PretrainConfig


def show(console: Console, config: PretrainConfig, topology: str) -> None:
    """Compiles every phase for the topology and prints the estimates.

    Raises:
      UserError: no such topology, or mesh, batch and model do not fit together.
    """
    devices, chip = topology_devices(topology)
    mesh = config.make_mesh(devices)
    objective = PretrainingObjective(config.model, config.data.pair_objective)
    optimizer = make_optimizer(config.optimizer, config.learning_rate_schedule())
    console.print(f"compiling for {len(devices)} x {devices[0].device_kind}; this takes minutes")
    estimates: dict[int, Estimate] = {}
    for number, phase in enumerate(config.phases):
        try:
            estimates[number] = estimate(
                objective,
                optimizer,
                mesh,
                chip,
                batch_size=phase.batch_size,
                sequence_length=phase.sequence_length,
                max_predictions=phase.max_predictions,
                packed=config.data.packed,
                accumulation=config.loop.accumulation_steps,
            )
        except DoesNotFit as error:
            console.print(
                f"phase {number} does NOT fit, with {phase.batch_size / batch_shards(mesh):g} "
                f"sequences per chip: {error}\nlower phases.{number}.batch_size or raise "
                "loop.accumulation_steps or mesh.fsdp, or try model.remat dots",
                markup=False,
            )
    if not estimates:
        return
    table = Table(title=f"One step on {topology}, by the compiler", title_justify="left")
    table.add_column("")
    for number in estimates:
        table.add_column(f"phase {number}", justify="right")
    for name, cells in _rows(list(estimates.values()), chip).items():
        table.add_row(name, *cells)
    console.print(table)
    console.print(
        "Cycles are the compiler's estimate without waiting for other chips; it makes none of our "
        "kernels,\nwhich are counted by their operations and bytes (docs/decisions/step-speed.md). "
        "The MFU follows\nfrom the cycles. Nothing was run.",
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
        "compiled FLOPs per chip, micro-batch": [f"{each.flops:.3g}" for each in estimates],
        "bytes accessed per chip, micro-batch": [f"{each.accessed:.3g}" for each in estimates],
    }
    for part in parts:
        rows[f"cycles: {part}"] = [
            _millions(each.summary.cycles.get(part, 0)) for each in estimates
        ]
    rows["cycles"] = [_millions(sum(each.summary.cycles.values())) for each in estimates]
    if any(each.kernels for each in estimates):
        rows["of them our kernels, by our count"] = [_millions(each.kernels) for each in estimates]
    rows[f"ms at {chip.clock / 1e9:g} GHz"] = [f"{1e3 * each.seconds:.1f}" for each in estimates]
    rows["ms of collectives, some of them meanwhile"] = [
        f"{1e3 * each.communication:.1f}" for each in estimates
    ]
    rows["estimated MFU"] = [
        "-" if math.isnan(each.mfu) else f"{each.mfu:.0%}" for each in estimates
    ]
    for kind in kinds:
        rows[f"{kind}: number, size, largest"] = [
            f"{found.number}, {found.size / 2**20:,.1f} MiB, {found.largest / 2**20:,.1f} MiB"
            if (found := each.summary.collectives.get(kind))
            else "-"
            for each in estimates
        ]
    if any(each.uncounted for each in estimates):
        rows["custom kernels without estimate"] = [str(each.uncounted) for each in estimates]
    return rows


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def _millions(cycles: int) -> str:
    return f"{cycles / 1e6:.1f} M"
