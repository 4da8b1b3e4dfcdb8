"""Fine-tunes with each seed: the loop, its report, and the export of the best seed."""

import dataclasses
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from bert_jax.monitoring.tracker import read_metrics
from bert_jax.parallel.sharding import described
from bert_jax.training import loop
from bert_jax.training.saved_params import load_params
from bert_jax.training.step import init_state
from commands.exporters import EXPORTERS
from commands.finetune.command_line import exported_seeds
from commands.finetune.report import epochs_table, spread, spread_table, write_report
from commands.finetune.run import Run, open_run
from commands.run_folder import opened, total_peak_flops, tracker_of
from commands.same_run import (
    MAY_DIFFER_IN_FINETUNING,
    check_same_run,
    check_seeds_dir,
    earlier_config,
)
from configs.finetune import FinetuneConfig
from data_pipeline.files import write_json
from data_pipeline.finetune.batches import TrainingBatches, steps_per_epoch


def finetune_seeds(
    config: FinetuneConfig, arguments: Sequence[str], console: Console
) -> Path | None:
    """Fine-tunes with each seed and returns the best one's work folder; None after a signal."""
    run = open_run(config, arguments, console)
    saved_config = run.saved_config()
    if len(config.seeds) > 1:
        check_seeds_dir(Path(config.work_dir), config.export_record)
    configs = {seed: saved_config | {"seeds": [seed]} for seed in config.seeds}
    for seed, of_seed in configs.items():  # before any of them is trained
        work_dir = config.seed_dir(seed)
        check_same_run(work_dir, earlier_config(work_dir), of_seed, MAY_DIFFER_IN_FINETUNING)
    results = {}
    for seed, of_seed in configs.items():
        if len(configs) > 1:
            console.print(f"\nseed {seed}")
        result = finetune(run, seed, of_seed)
        if result is None:
            return None
        results[seed], interrupted = result
        if interrupted and len(results) < len(config.seeds):
            console.print(f"stopped after seed {seed}; the same command continues")
            return None
    best = Path(config.work_dir)
    if len(results) > 1:
        found = spread(results)
        console.print(spread_table(found))
        write_json(best / "seeds.json", found)
        best = config.seed_dir(max(results, key=lambda seed: results[seed][run.task.best]))
    if config.export and exported_seeds(config) != config.seeds:
        name, folder = config.export
        EXPORTERS[name].write(best, folder, console)
        record = {"format": name, "folder": str(folder.resolve()), "seeds": list(config.seeds)}
        write_json(config.export_record, record)
    return best


def finetune(
    run: Run, seed: int, saved_config: dict[str, Any]
) -> tuple[dict[str, float], bool] | None:
    """Trains with one seed and writes the report.

    Returns the dev scores of the best epoch and whether a signal came after the last step; None if
    it came before.
    """
    config, task, data, mesh = run.config, run.task, run.data, run.mesh
    work_dir = config.seed_dir(seed)
    rows = data.train.features.rows
    batches = TrainingBatches(
        rows, batch_size=config.batch_size, boundaries=run.boundaries, seed=seed
    )
    epoch_steps = steps_per_epoch(len(rows), config.batch_size)
    stage = loop.Stage(
        steps=config.epochs * epoch_steps,
        batches=batches,
        evaluate=run.evaluate,
        flops_per_step=run.flops_per_step(),
        best=task.best,
    )
    run.console.print(
        f"{stage.steps:,} steps in {config.epochs} epoch{'s' * (config.epochs != 1)}, "
        f"{batches.padding_share():.0%} padding, on {described(mesh)}"
    )
    loop_config = config.loop(epoch_steps)
    with opened(
        work_dir,
        loop_config,
        saved_config,
        run.source.tokenizer,
        started=time.time(),
        may_differ=MAY_DIFFER_IN_FINETUNING,
        base=run.unsaved,
    ) as (checkpoints, first_start):
        outcome = loop.run(
            loop_config,
            [stage],
            objective=run.objective,
            optimizer=run.optimizer,
            mesh=mesh,
            checkpoints=checkpoints,
            open_tracker=partial(tracker_of, work_dir),
            saved_config=saved_config,
            fresh_state=lambda: init_state(
                run.objective, run.optimizer, mesh, seed, run.start.params
            ),
            seed=seed,
            peak_flops=total_peak_flops(run.model.dtype),
            first_start=first_start,
        )
        if outcome.reason == "stopped":
            return None
        metrics, best_step = read_metrics(work_dir / "metrics.jsonl"), checkpoints.best_step
        assert best_step is not None, "each epoch ends with an evaluation and a checkpoint"
        run.console.print(epochs_table(metrics, epoch_steps, best_step))
        params = load_params(work_dir, best_step, lambda _: run.source.params)[0]
        predictions, scores, settings = {}, {}, {}
        for name, split in (("dev", data.dev), ("test", data.test)):
            if split is not None:
                found, _ = run.outputs(params, split)
                if name == "dev":
                    settings = task.tune(found, split.examples)
                predictions[name] = task.decide(found, settings)
                judged = task.count_judged(split.examples, split.features)
                scores[name] = task.score(predictions[name], split.examples) if judged else {}
        if scores.get("test"):
            shown = ", ".join(f"{name} {value:.4f}" for name, value in scores["test"].items())
            run.console.print(f"test: {shown}; answers in {work_dir}/test_predictions.jsonl")
        summary = {"step": best_step, "reason": outcome.reason}
        write_json(work_dir / "summary.json", summary | {"scores": scores, "settings": settings})
        of_seed = dataclasses.replace(config, seeds=(seed,), work_dir=str(work_dir))
        write_report(run._replace(config=of_seed), metrics, predictions, scores)
    return scores["dev"], outcome.interrupted
