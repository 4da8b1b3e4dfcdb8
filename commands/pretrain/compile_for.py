"""`--compile-for`: how a run would do on a TPU that is not there."""

import math
import time

from rich.console import Console
from rich.table import Table

from bert_jax.analysis.compile_ahead import Chip, DoesNotFit, Estimate, estimate, topology_devices
from bert_jax.models.registry import architecture_of
from bert_jax.parallel.sharding import batch_shards
from bert_jax.parallel.stop_signal import ending_at_once
from bert_jax.training.optimizer import make_optimizer
from commands.pretrain.run import batch_size, mesh_of, objective_of
from commands.pretrain.schedule import schedule_of
from configs.pretrain import PretrainConfig


def show(config: PretrainConfig, topology: str) -> None:
    """Compiles every phase for the topology and prints the estimates."""
    console = Console(soft_wrap=True, highlight=False)
    devices, chip = topology_devices(topology)
    mesh = mesh_of(config, devices)
    objective = objective_of(config)
    blocks = architecture_of(config.model).blocks(config.model)
    optimizer = make_optimizer(config.optimizer, schedule_of(config), blocks)
    console.print(f"compiling for {len(devices)} x {devices[0].device_kind}; this takes minutes")
    estimates: dict[int, Estimate] = {}
    for number, phase in enumerate(config.phases):
        start = time.monotonic()
        try:
            with ending_at_once():
                estimates[number] = estimate(
                    objective,
                    optimizer,
                    mesh,
                    chip,
                    batch_size(config, phase),
                    accumulation=config.loop.accumulation_steps,
                )
            console.print(f"phase {number} compiled in {time.monotonic() - start:.0f} s")
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
    steps = [config.phases[number].steps for number in estimates]
    for name, cells in _rows(list(estimates.values()), steps, chip).items():
        table.add_row(name, *cells)
    console.print(table)
    if any(math.isnan(each.mfu) for each in estimates.values()):
        console.print(
            f"No MFU: the peak of {config.model.dtype} is not known; that of --model.dtype "
            "bfloat16 is."
        )
    console.print(
        "Cycles are the compiler's estimate without waiting for other chips, input or checkpoints; "
        "it makes\nnone of our kernels, which are counted by their operations and bytes "
        "(docs/decisions/step-speed.md).\nMFU and whole phases follow from the cycles. "
        "Nothing was run.",
        highlight=False,
    )


def _rows(estimates: list[Estimate], steps: list[int], chip: Chip) -> dict[str, list[str]]:
    parts = sorted({part for each in estimates for part in each.summary.cycles})
    kinds = sorted({kind for each in estimates for kind in each.summary.collectives})
    rows = {
        "parameters": [f"{each.parameters:,}" for each in estimates],
        "sequences per chip": [f"{each.batch_per_chip:g}" for each in estimates],
        "state per chip": [_size(each.state) for each in estimates],
        "peak memory per chip": [_size(each.peak) for each in estimates],
        f"fits in {_size(chip.memory)}": [
            "yes" if each.peak < chip.memory else "NO" for each in estimates
        ],
        "model FLOPs of the step": [f"{each.model_flops:.3g}" for each in estimates],
        "compiled FLOPs per chip, micro-batch": [f"{each.flops:.3g}" for each in estimates],
        "bytes accessed per chip, micro-batch": [f"{each.accessed:.3g}" for each in estimates],
    }
    for part in parts:
        rows[f"cycles: {part}"] = [_cycles(each.summary.cycles.get(part, 0)) for each in estimates]
    rows["cycles"] = [_cycles(sum(each.summary.cycles.values())) for each in estimates]
    if any(each.kernels for each in estimates):
        rows["of them our kernels, by our count"] = [_cycles(each.kernels) for each in estimates]
    rows[f"ms at {chip.clock / 1e9:g} GHz"] = [_milliseconds(each.seconds) for each in estimates]
    rows["ms of collectives, some of them meanwhile"] = [
        _milliseconds(each.communication) for each in estimates
    ]
    rows["whole phase without waiting"] = [
        f"{number:,} steps, {_duration(number * each.seconds)}"
        for number, each in zip(steps, estimates, strict=True)
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


def _size(size: int) -> str:
    """Of memory.

    >>> _size(5 << 20), _size(16 << 30)
    ('5.0 MiB', '16.00 GiB')
    """
    return f"{size / 2**30:.2f} GiB" if size >= 2**29 else f"{size / 2**20:.1f} MiB"


def _cycles(cycles: int) -> str:
    """Thousands or millions.

    >>> _cycles(41_230), _cycles(100_400_000)
    ('41.2 k', '100.4 M')
    """
    return f"{cycles / 1e6:.1f} M" if cycles >= 1e6 else f"{cycles / 1e3:.1f} k"


def _milliseconds(seconds: float) -> str:
    """Three digits of a short time.

    >>> _milliseconds(0.0002654), _milliseconds(1.2345)
    ('0.265', '1,234.5')
    """
    return f"{1e3 * seconds:,.1f}" if seconds >= 0.01 else f"{1e3 * seconds:.3g}"


def _duration(seconds: float) -> str:
    """In the unit that is easiest to read.

    >>> _duration(90), _duration(9000), _duration(900_000)
    ('about 90 seconds', 'about 2.5 hours', 'about 10.4 days')
    """
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"about {seconds / unit:.1f} {name}"
    return f"about {seconds:.0f} seconds"
