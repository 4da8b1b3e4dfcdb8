"""`--compile-for`: how fast a run would be, and whether it would fit, on a TPU elsewhere."""

import math
import time
from collections.abc import Sequence

from rich.console import Console

from bert_jax.analysis.compile_ahead import Chip, DoesNotFit, Estimate, estimate, topology_devices
from bert_jax.models.registry import architecture_of
from bert_jax.parallel.sharding import batch_shards
from bert_jax.parallel.stop_signal import ending_at_once
from bert_jax.training.optimizer import make_optimizer
from commands.pretrain.dry_run import phase_table
from commands.pretrain.run import batch_size, mesh_of, objective_of
from commands.pretrain.schedule import schedule_of
from configs.pretrain import PretrainConfig


def show(config: PretrainConfig, topology: str) -> None:
    """Compiles the step of every phase for the topology and prints the estimates."""
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
                    config.model,
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
    figures = {
        number: _figures(each, config.phases[number].steps, chip, list(estimates.values()))
        for number, each in estimates.items()
    }
    console.print(phase_table(f"One step on {topology}, as the compiler estimates it", figures))
    if any(math.isnan(each.mfu) for each in estimates.values()):
        console.print(
            f"No MFU: the peak for {config.model.dtype} is not known; --model.dtype bfloat16 has "
            "one."
        )
    console.print(
        "Cycles are the compiler's estimate without waiting for other chips, input or checkpoints; "
        "it makes\nnone for our kernels, whose cycles follow from their operations and bytes "
        "(docs/decisions/step-speed.md).\nMFU and times follow from the cycles. Nothing was run.",
        highlight=False,
    )


def _figures(
    each: Estimate, steps: int, chip: Chip, estimates: Sequence[Estimate]
) -> dict[str, str]:
    """The figures of one phase, for all rows that any of the phases needs."""
    cycles, collectives = each.summary.cycles, each.summary.collectives
    parts = sorted({part for other in estimates for part in other.summary.cycles})
    kinds = sorted({kind for other in estimates for kind in other.summary.collectives})
    figures = {
        "parameters": f"{each.parameters:,}",
        "sequences per chip": f"{each.batch_per_chip:g}",
        "state per chip": _size(each.state),
        "peak memory per chip": _size(each.peak),
        f"fits in {_size(chip.memory)}": "yes" if each.peak < chip.memory else "NO",
        "model FLOPs of the step": f"{each.model_flops:.3g}",
        "compiled FLOPs per chip, micro-batch": f"{each.flops:.3g}",
        "bytes accessed per chip, micro-batch": f"{each.accessed:.3g}",
    }
    for part in parts:
        figures[f"cycles: {part}"] = _cycles(cycles.get(part, 0))
    figures["cycles"] = _cycles(sum(cycles.values()))
    if any(other.kernels for other in estimates):
        figures["of them in our kernels, by our count"] = _cycles(each.kernels)
    figures |= {
        f"ms at {chip.clock / 1e9:g} GHz": _milliseconds(each.seconds),
        "ms of collectives, partly overlapped": _milliseconds(each.communication),
        "whole phase without waiting": f"{steps:,} steps, {_duration(steps * each.seconds)}",
        "estimated MFU": "-" if math.isnan(each.mfu) else f"{each.mfu:.0%}",
    }
    for kind in kinds:
        name = f"{kind}: number, size, largest"
        figures[name] = "-"
        if kind in collectives:
            number, size, largest = collectives[kind]
            figures[name] = f"{number}, {size / 2**20:,.1f} MiB, {largest / 2**20:,.1f} MiB"
    if any(other.uncounted for other in estimates):
        figures["custom kernels without an estimate"] = str(each.uncounted)
    return figures


def _size(size: int) -> str:
    """A number of bytes.

    >>> _size(5 << 20), _size(16 << 30)
    ('5.0 MiB', '16.00 GiB')
    """
    return f"{size / 2**30:.2f} GiB" if size >= 2**29 else f"{size / 2**20:.1f} MiB"


def _cycles(cycles: int) -> str:
    """In thousands or millions.

    >>> _cycles(41_230), _cycles(100_400_000)
    ('41.2 k', '100.4 M')
    """
    return f"{cycles / 1e6:.1f} M" if cycles >= 1e6 else f"{cycles / 1e3:.1f} k"


def _milliseconds(seconds: float) -> str:
    """A time in ms.

    >>> _milliseconds(0.0002654), _milliseconds(1.2345)
    ('0.265', '1,234.5')
    """
    return f"{1e3 * seconds:,.1f}" if seconds >= 0.01 else f"{1e3 * seconds:.3g}"


def _duration(seconds: float) -> str:
    """A time in the largest unit that gives at least two.

    >>> _duration(90), _duration(9000), _duration(900_000)
    ('about 90 seconds', 'about 2.5 hours', 'about 10.4 days')
    """
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"about {seconds / unit:.1f} {name}"
    return f"about {seconds:.0f} seconds"
