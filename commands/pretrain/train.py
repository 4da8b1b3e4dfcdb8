"""Pre-trains: runs the loop, draws the curves, and prints the figures and the next commands."""

import itertools
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from bert_jax.monitoring.tracker import read_metrics
from bert_jax.objectives.objective import Metric
from bert_jax.objectives.pretraining import fill_mask
from bert_jax.parallel import distributed
from bert_jax.parallel.process import keep_compiled_programs, keep_freed_memory
from bert_jax.training import loop
from commands.pretrain import dry_run
from commands.pretrain.command_line import Request
from commands.pretrain.run import open_run
from commands.run_folder import opened, total_peak_flops, tracker_of
from configs.pretrain import PretrainConfig
from data_pipeline.files import write_json
from data_pipeline.tokenization.fill_mask import fill_mask_inputs
from data_pipeline.tokenization.interface import Tokenizer

EXAMPLES = (
    "The function returns a [MASK] .",
    "If the file does not [MASK] , an error is raised.",
    "Return the number of [MASK] in the list.",
)


def train(request: Request, started: float) -> None:
    """Trains, or shows what the run would be; the process started at the Unix time `started`."""
    recipe, config, work_dir = request.recipe, request.config, Path(request.config.work_dir)
    keep_freed_memory()
    distributed.initialize(request.options.distributed)
    console = Console(soft_wrap=True, highlight=False, quiet=not distributed.is_first())
    keep_compiled_programs()
    run = open_run(request, console)
    if run is None:
        return
    if request.options.dry_run:
        dry_run.show(console, run)
        return
    folder = opened(work_dir, config.loop, run.saved_config, run.tokenizer, started=started)
    with folder as (checkpoints, first_start):
        outcome = loop.run(
            config.loop,
            run.stages,
            objective=run.objective,
            optimizer=run.optimizer,
            mesh=run.mesh,
            checkpoints=checkpoints,
            open_tracker=partial(tracker_of, work_dir),
            saved_config=run.saved_config,
            fresh_state=run.fresh_state,
            seed=config.seed,
            peak_flops=total_peak_flops(config.model.dtype),
            first_start=first_start,
            profile=work_dir / "profile" if request.options.profile else None,
        )
        params = distributed.gathered(outcome.state.params) if recipe == "demo" else None
        if not distributed.is_first():
            return
        from bert_jax.monitoring.plots import plot_curves

        rows = read_metrics(work_dir / "metrics.jsonl")
        entropy = run.corpus.metadata["heldout_unigram_entropy"]
        metrics = run.objective.metrics
        titles = {name: metric.title for name, metric in metrics.items()}
        plot_curves(rows, work_dir / "curves.png", titles, entropy)
        if outcome.reason == "stopped":
            return
        for line in (*held_out_lines(rows, metrics, entropy), *speed_lines(rows, config)):
            console.print(line)
        if recipe == "demo":
            for text in EXAMPLES:
                console.print(_filled(config, params, run.tokenizer, text), markup=False)
        summary = {"step": int(outcome.state.step), "reason": outcome.reason}
        write_json(work_dir / "summary.json", summary)
    is_active = sys.prefix == sys.base_prefix or os.environ.get("VIRTUAL_ENV") == sys.prefix
    activation = "" if is_active else f"  source {os.path.relpath(sys.prefix)}/bin/activate\n"
    console.print(
        f"\nDone in {(time.time() - started) / 60:.1f} minutes. Look at: "
        f"{work_dir}/curves.png, {work_dir}/metrics.jsonl; or pip install tensorboard and "
        f"tensorboard --logdir {work_dir}\n"
        f"Type next:\n{activation}"
        f'  python run_predict.py fill-mask --checkpoint {work_dir} "{EXAMPLES[0]}"\n'
        f"  python run_convert.py to-hf --checkpoint {work_dir} --output DIR  # for transformers\n"
        "  python -m data_pipeline.prepare --help    # a corpus of your own text",
        markup=False,
    )


def held_out_lines(
    rows: Sequence[Mapping[str, Any]], metrics: Mapping[str, Metric], entropy: float
) -> Iterator[str]:
    """The masked-LM loss and all accuracies before and after training; `entropy` is in nats."""
    held_out = [row for row in rows if row["split"] == "eval"]
    if not held_out:
        yield "No held-out figures: evaluation_examples is 0."
        return
    first, last = held_out[0], held_out[-1]
    yield f"Held-out          step {first['step']:>8}  step {last['step']:>8}"
    for name, metric in metrics.items():
        line = f"{metric.title:<18}{first[name]:13.3f}  {last[name]:13.3f}"
        if name == "masked_lm_loss":
            below = entropy - last[name]
            verdict = f"{below:.3f} nats below it"
            if below < 0:
                verdict = (
                    f"{-below:.3f} nats above it, so nothing has been learned from context yet"
                )
            yield f"{line}   unigram entropy {entropy:.3f}: {verdict}"
        elif metric.of_a_constant is not None:
            yield f"{line}   a constant answer {metric.of_a_constant:g}"
        elif name.endswith("_accuracy"):
            yield line


def speed_lines(rows: Sequence[Mapping[str, Any]], config: PretrainConfig) -> Iterator[str]:
    """The speed of each phase, medians of its rows of metrics.jsonl, and the run's goodput."""
    timed = [row for row in rows if "goodput" in row]
    ends = list(itertools.accumulate(phase.steps for phase in config.phases))
    for number, end in enumerate(ends):
        start = ends[number - 1] if number else 0
        of_phase = [row for row in timed if start < row["step"] <= end]
        if not of_phase:
            continue
        names = "sequences_per_second", "tokens_per_second", "padding_share", "input_wait_share"
        sequences, tokens, padding, waiting = (
            statistics.median(row[name] for row in of_phase) for name in names
        )
        line = (
            f"{sequences:,.0f} {config.data.rows}/s, {tokens:,.0f} tokens/s, "
            f"{padding:.1%} padding, {waiting:.1%} of the time waiting for input"
        )
        if "mfu" in of_phase[-1]:
            line += f", MFU {statistics.median(row['mfu'] for row in of_phase):.1%}"
        if end == ends[-1]:
            line += f"; goodput {of_phase[-1]['goodput']:.1%}"
        name = "speed" if len(ends) == 1 else f"speed, phase {number}"
        yield f"{name:<18}{line}"


def _filled(config: PretrainConfig, params: Any, tokenizer: Tokenizer, text: str) -> str:
    """The text and the five most probable pieces for its mask, in one line."""
    inputs = fill_mask_inputs(tokenizer, text, config.model.max_position_embeddings)
    ids, probabilities = fill_mask(config.model, params, *inputs)
    pieces = ", ".join(
        f"{tokenizer.id_to_piece(int(token))} {probability:.2f}"
        for token, probability in zip(ids[0], probabilities[0], strict=True)
    )
    return f"{text}  ->  {pieces}"
