"""`--dry-run`: shows what a run would be."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from bert_jax.parallel.sharding import bytes_per_device, described
from bert_jax.training.optimizer import Optimizer
from bert_jax.training.step import abstract_state, make_train_step
from commands.pretrain.run import Run, batch_size
from data_pipeline.tokenization.interface import Tokenizer

_BAR_WIDTH = 40
_POINTS = 16
_COLUMNS = 95


def show(console: Console, run: Run) -> None:
    """Prints the configuration, sizes and memory, the schedule, and one example with its masks.

    The train step of each phase is compiled for this machine's devices, but not run.
    """
    config, optimizer = run.config, run.optimizer
    for name, value in _fields(config.resolved()):
        console.print(f"{name} = {value}", markup=False)
    shapes, shardings = abstract_state(run.objective, optimizer, run.mesh)
    state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    train_step = make_train_step(
        run.objective, optimizer, run.mesh, accumulation=config.loop.accumulation_steps
    )
    figures = {}
    first_batches = [next(iter(stage.batches(None))) for stage in run.stages]
    total_flops = 0.0
    phases = zip(config.phases, run.stages, first_batches, strict=True)
    for number, (phase, stage, batch) in enumerate(phases):
        filled = np.count_nonzero(batch["attention_mask"]) / len(batch["attention_mask"])
        tokens = phase.steps * phase.batch_size * filled
        inputs = run.objective.batch_shapes(batch_size(config, phase))
        memory = train_step.lower(shapes, inputs, 0).compile().memory_analysis()  # type: ignore[attr-defined]
        needed = "unknown on this backend"
        if memory:  # the results of a step reuse the memory of its arguments
            size = memory.argument_size_in_bytes + memory.temp_size_in_bytes
            needed = f"{size / 2**20:,.0f} MiB"
        flops = phase.steps * stage.flops_per_step
        total_flops += flops
        figures[number] = {
            "steps": f"{phase.steps:,}",
            config.data.rows: f"{phase.steps * phase.batch_size:,}",
            "padding": f"{1 - filled / phase.sequence_length:.1%}",
            "tokens, about": f"{tokens:,.0f}",
            "epochs, about": f"{tokens / run.corpus.split('train').tokens:.2f}",
            "FLOPs of a step": f"{stage.flops_per_step:.3g}",
            "FLOPs": f"{flops:.3g}",
            "state per device": f"{bytes_per_device(shapes, shardings) / 2**20:,.1f} MiB",
            "memory of a step, per device": needed,
        }
    console.print(phase_table("The run", figures))
    console.print(
        f"{state_bytes / 2**20:,.1f} MiB of parameters and optimizer state; "
        f"{config.total_steps:,} steps, {total_flops:.3g} FLOPs in all on {described(run.mesh)}"
    )
    console.print("\nLearning rate (for every step: --learning-rates)", markup=False)
    for line in schedule_lines(optimizer, config.total_steps):
        console.print(line, markup=False)
    console.print("\nAn example from the first batch; [shown -> to be predicted]", markup=False)
    for line in example_lines(first_batches[0], run.tokenizer):
        console.print(line, markup=False)


def phase_table(title: str, phases: Mapping[int, Mapping[str, str]]) -> Table:
    """A table from {number of a phase: {name: figure}}; all phases have the same names."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for number in phases:
        table.add_column(f"phase {number}", justify="right")
    for name in next(iter(phases.values())):
        table.add_row(name, *(figures[name] for figures in phases.values()))
    return table


def schedule_lines(optimizer: Optimizer, total_steps: int) -> Iterator[str]:
    """The learning rate at evenly spaced steps, as numbers and bars."""
    steps = np.unique(np.linspace(0, total_steps - 1, _POINTS).round().astype(int))
    rates = [float(optimizer.learning_rate(int(step))) for step in steps]
    peak = max(rates) or 1.0
    width = len(f"{total_steps:,}")
    for step, rate in zip(steps, rates, strict=True):
        bar = "#" * round(_BAR_WIDTH * rate / peak)
        yield f"{step:>{width},}  {rate:.3e}  {bar}".rstrip()


def example_lines(batch: dict[str, np.ndarray], tokenizer: Tokenizer) -> Iterator[str]:
    """The first row of a batch as text without padding, with its predictions marked."""
    words = [tokenizer.id_to_piece(int(token)) for token in batch["input_ids"][0]]
    predictions = zip(
        batch["masked_positions"][0],
        batch["masked_labels"][0],
        batch["masked_weights"][0],
        strict=True,
    )
    for position, label, weight in predictions:
        if weight:
            words[position] = f"[{words[position]} -> {tokenizer.id_to_piece(int(label))}]"
    text = " ".join(words[: np.count_nonzero(batch["attention_mask"][0])])
    yield from textwrap.wrap(text, _COLUMNS, break_long_words=False, break_on_hyphens=False)
    if "next_sentence_labels" in batch:
        yield f"next_sentence_label {batch['next_sentence_labels'][0]}"


def _fields(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested JSON values with dotted names, as on the command line."""
    if isinstance(values, list) and values:
        values = dict(enumerate(values))
    if not isinstance(values, dict):
        yield prefix, values
        return
    for name, value in values.items():
        yield from _fields(value, f"{prefix}.{name}" if prefix else str(name))
