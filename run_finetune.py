"""Fine-tunes a BERT: `python run_finetune.py TASK --init-from DIR --data DIR [--option value ...]`.

Without arguments it is the demo: the model of run_pretrain.py's demo learns to tell from which of
your Python packages a docstring is. The same command typed again continues an interrupted run.
"""

import contextlib
import dataclasses
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from rich.console import Console

from bert_jax.errors import UserError
from bert_jax.interchange.hugging_face import read_json
from bert_jax.models.adapters import can_be_merged, method_of
from bert_jax.models.flops import peak_flops
from bert_jax.monitoring.tracker import Tracker, read_metrics
from bert_jax.parallel.machine import keep_compiled_programs, keep_freed_memory
from bert_jax.parallel.sharding import described
from bert_jax.tasks.registry import saved_task
from bert_jax.training import loop
from bert_jax.training.checkpoint import Checkpoints, load_params
from bert_jax.training.step import init_state
from commands.errors import user_errors
from commands.export import to_hugging_face
from commands.finetune import demo as demo
from commands.finetune.command_line import exported_seeds, from_command_line
from commands.finetune.report import ask_command, epochs_table, spread, spread_table, write_report
from commands.finetune.run import Run, open_run
from commands.work_dir import (
    FINETUNING_FIELDS,
    OtherRunError,
    check_same_run,
    check_seeds_dir,
    earlier_config,
    first_start_of,
    locked,
)
from configs.finetune import FinetuneConfig
from data_pipeline.files import write_json
from data_pipeline.finetune.batches import TrainingBatches, steps_per_epoch


def main(arguments: Sequence[str]) -> None:
    """Reads the command line, fine-tunes with each seed, and prints what to type next."""
    started = time.time()
    console = Console(soft_wrap=True, highlight=False, markup=False)
    keep_freed_memory()
    keep_compiled_programs()
    config = from_command_line(arguments) if arguments else None
    best = finetune_seeds(config, arguments, console) if config else compare_demo(console)
    if best is None:  # a signal; what there is is saved
        return
    console.print(
        f"\nDone in {(time.time() - started) / 60:.1f} minutes. Look at: {best}/README.md, "
        f"{best}/predictions.jsonl, {best}/curves.png\nType next:"
    )
    saved = read_json(best / "config.json")
    console.print(f"  {ask_command(saved_task(saved), best)}")
    if config and config.export:
        console.print(f"  # for transformers: {config.export[1]}")
    elif can_be_merged(method_of(saved)) and saved["architecture"]:
        console.print(
            f"  python run_convert.py to-hf --checkpoint {shlex.quote(str(best))} --output DIR  "
            "# for transformers"
        )


def compare_demo(console: Console) -> Path | None:
    """The demo: a pre-trained model, the same one from scratch, and a linear model of word counts.

    Returns:
      The work folder of the first.
    """
    configs = demo.prepare(console)
    scores = {}
    for name, config in configs.items():
        console.print(f"\n{name}")
        try:
            folder = finetune_seeds(config, [], console)
        except OtherRunError:
            raise UserError(
                f"{config.work_dir} holds the demo of another model or of other data; delete it, "
                "and type the same command again"
            ) from None
        if folder is None:
            return None
        scores[name] = read_json(folder / "summary.json")["scores"]["dev"]["accuracy"]
    scores[demo.BASELINE] = demo.baseline()
    console.print(demo.comparison(scores))
    return Path(next(iter(configs.values())).work_dir)


def finetune_seeds(
    config: FinetuneConfig, arguments: Sequence[str], console: Console
) -> Path | None:
    """Fine-tunes with each seed.

    Returns:
      The work folder of the best, None where a signal ended it.
    """
    run = open_run(config, arguments, console)
    saved_config = run.saved_config()
    if len(config.seeds) > 1:
        check_seeds_dir(Path(config.work_dir), config.export_record)
    for seed in config.seeds:  # all of them before any work is spent on one
        work_dir = config.seed_dir(seed)
        earlier = earlier_config(work_dir)
        check_same_run(work_dir, earlier, saved_config | {"seeds": [seed]}, FINETUNING_FIELDS)
    results = {}
    for seed in config.seeds:
        if len(config.seeds) > 1:
            console.print(f"\nseed {seed}")
        result = finetune(run, seed, config.seed_dir(seed), saved_config | {"seeds": [seed]})
        if result is None:
            return None
        results[seed] = result.scores
        if result.interrupted and len(results) < len(config.seeds):
            console.print(f"stopped after seed {seed}; the same command continues")
            return None
    best = Path(config.work_dir)
    if len(results) > 1:
        found = spread(results)
        console.print(spread_table(found))
        write_json(best / "seeds.json", found)
        best = config.seed_dir(max(results, key=lambda seed: results[seed][run.task.best]))
    if config.export and exported_seeds(config) != config.seeds:
        to_hugging_face(best, config.export[1], console)
        record = {"folder": str(config.export[1].resolve()), "seeds": list(config.seeds)}
        write_json(config.export_record, record)
    return best


class Result(NamedTuple):
    """How a run ended.

    Attributes:
      scores: of the best epoch on the dev set.
      interrupted: whether a signal came when there was nothing left to train.
    """

    scores: dict[str, float]
    interrupted: bool


def finetune(run: Run, seed: int, work_dir: Path, saved_config: dict[str, Any]) -> Result | None:
    """One run of the loop and its report; None where a signal ended it before its end."""
    config, task, data, mesh = run.config, run.task, run.data, run.mesh
    batches = TrainingBatches(
        data.train.features.rows,
        batch_size=config.batch_size,
        boundaries=run.boundaries,
        seed=seed,
    )
    epoch_steps = steps_per_epoch(len(data.train.features.rows), config.batch_size)
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
    with locked(work_dir), contextlib.ExitStack() as stack:
        first_start = first_start_of(work_dir, saved_config, FINETUNING_FIELDS) or time.time()
        write_json(work_dir / "config.json", saved_config | {"first_start": first_start})
        run.source.tokenizer.save(work_dir)
        checkpoints = Checkpoints(
            work_dir / "checkpoints", keep=1, keep_best=True, base=run.unsaved
        )
        stack.callback(checkpoints.close)
        device_peak = peak_flops(jax.devices()[0].device_kind, run.model.dtype)
        outcome = loop.run(
            config.loop(epoch_steps),
            [stage],
            objective=run.objective,
            optimizer=run.optimizer,
            mesh=mesh,
            checkpoints=checkpoints,
            open_tracker=lambda step: Tracker(work_dir, step),
            saved_config=saved_config,
            fresh_state=lambda: init_state(
                run.objective, run.optimizer, mesh, seed, run.start.params
            ),
            seed=seed,
            peak_flops=device_peak and device_peak * jax.device_count(),
            first_start=first_start,
        )
        if outcome.reason == "stopped":
            return None
        checkpoints.wait()
        rows = read_metrics(work_dir / "metrics.jsonl")
        best_step = checkpoints.best_step
        assert best_step is not None, "every epoch ends with an evaluation and a checkpoint"
        run.console.print(epochs_table(rows, epoch_steps, best_step))
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
        summary = {"step": best_step, "reason": outcome.reason, "scores": scores}
        write_json(work_dir / "summary.json", summary | {"settings": settings})
        of_seed = dataclasses.replace(config, seeds=(seed,), work_dir=str(work_dir))
        write_report(
            work_dir, of_seed, task, data, rows, predictions, scores, run.origin, run.command
        )
    return Result(scores["dev"], outcome.interrupted)


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
