"""Pre-trains: runs the loop, draws the curves, and prints the figures and the next commands."""

import os
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from bert_jax.objectives.pretraining import fill_mask
from bert_jax.parallel import distributed
from bert_jax.parallel.process import keep_compiled_programs, keep_freed_memory
from commands.pretrain import dry_run
from commands.pretrain.command_line import Request
from commands.pretrain.run import open_run
from commands.pretrain.summary import held_out_lines, speed_lines
from commands.run_folder import opened
from configs.pretrain import PretrainConfig
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
    with opened(work_dir, config.loop, run.saved_config, run.tokenizer, started=started) as folder:
        outcome = folder.train(
            config.loop,
            run.stages,
            objective=run.objective,
            optimizer=run.optimizer,
            mesh=run.mesh,
            fresh_state=run.fresh_state,
            seed=config.seed,
            dtype=config.model.dtype,
            profile=request.options.profile,
        )
        params = distributed.gathered(outcome.state.params) if recipe == "demo" else None
        if not distributed.is_first():
            return
        from bert_jax.monitoring.plots import plot_curves

        rows, entropy = folder.rows(), run.corpus.metadata["heldout_unigram_entropy"]
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
        folder.summarize(int(outcome.state.step), outcome.reason)
    console.print(
        f"\nDone in {(time.time() - started) / 60:.1f} minutes. Look at: "
        f"{work_dir}/curves.png, {work_dir}/metrics.jsonl; or pip install tensorboard and "
        f"tensorboard --logdir {work_dir}\n"
        f"Type next:\n{_activation()}"
        f'  python run_predict.py fill-mask --checkpoint {work_dir} "{EXAMPLES[0]}"\n'
        f"  python run_convert.py to-hf --checkpoint {work_dir} --output DIR  # for transformers\n"
        "  python -m data_pipeline.prepare --help    # a corpus of your own text",
        markup=False,
    )


def _activation() -> str:
    """The command that activates this virtual environment, unless it is active."""
    if sys.prefix == sys.base_prefix or os.environ.get("VIRTUAL_ENV") == sys.prefix:
        return ""
    return f"  source {os.path.relpath(sys.prefix)}/bin/activate\n"


def _filled(config: PretrainConfig, params: Any, tokenizer: Tokenizer, text: str) -> str:
    """The text and the five most probable pieces for its mask, in one line."""
    inputs = fill_mask_inputs(tokenizer, text, config.model.max_position_embeddings)
    ids, probabilities = fill_mask(config.model, params, *inputs)
    pieces = ", ".join(
        f"{tokenizer.id_to_piece(int(token))} {probability:.2f}"
        for token, probability in zip(ids[0], probabilities[0], strict=True)
    )
    return f"{text}  ->  {pieces}"
