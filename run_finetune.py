"""Fine-tunes a BERT: `python run_finetune.py TASK --init-from DIR --data DIR [--option value ...]`.

Without arguments it is the demo: the model of run_pretrain.py's demo learns to tell from which of
your Python packages a docstring is. The same command typed again continues an interrupted run.
"""

import contextlib
import dataclasses
import operator
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from bert_jax import loop
from bert_jax.adapters import can_be_merged, frozen_layers, frozen_paths, method_of
from bert_jax.base import check_base, fingerprint, frozen_part
from bert_jax.checkpoint import Checkpoints, load_params
from bert_jax.finetuning import FinetuningObjective, PredictStep, make_predict_step, predict
from bert_jax.flops import model_flops, peak_flops
from bert_jax.hugging_face import read_json
from bert_jax.machine import keep_compiled_programs, keep_freed_memory
from bert_jax.model import BertConfig
from bert_jax.optimizer import Optimizer, frozen_mask, make_optimizer
from bert_jax.sharding import (
    batch_shards,
    check_batch_size,
    check_divides,
    described,
    host_rows,
    make_mesh,
)
from bert_jax.tracker import Tracker, read_metrics
from bert_jax.train import init_state
from bert_jax.warm_start import WarmStart, with_params
from configs import finetune_demo as demo
from configs.errors import user_errors
from configs.export import to_hugging_face
from configs.finetune import FinetuneConfig, from_command_line
from configs.finetune_data import Data, Split, length_boundaries, load_data
from configs.finetune_report import epochs_table, spread, spread_table, write_report
from configs.finetune_start import model_of, warm_start
from configs.source import Source, open_source
from configs.tasks.registry import find_task
from configs.tasks.task import Prediction, Task, batch_shapes
from configs.work_dir import (
    FINETUNING_FIELDS,
    check_same_run,
    earlier_config,
    first_start_of,
    locked,
)
from data_pipeline.finetune.batches import TrainingBatches, ordered_batches, steps_per_epoch
from data_pipeline.shards import write_json


class Run(NamedTuple):
    """What the runs of all seeds share, the compiled steps among it.

    Attributes:
      config: the fine-tuning's.
      task: its task.
      model: the architecture.
      source: what it starts from.
      start: the source's parameters that are used.
      data: its examples.
      boundaries: of the buckets of lengths.
      mesh: the devices.
      objective, optimizer: what is trained, and how.
      predict_step: from `make_predict_step`.
      unsaved: the parameters that no checkpoint holds, because the source has them.
      console: where to print.
      command: as it was typed.
    """

    config: FinetuneConfig
    task: Task[Any]
    model: BertConfig
    source: Source
    start: WarmStart
    data: Data
    boundaries: tuple[int, ...]
    mesh: Mesh
    objective: FinetuningObjective
    optimizer: Optimizer
    predict_step: PredictStep
    unsaved: dict[str, np.ndarray]
    console: Console
    command: str

    def outputs(self, params: Any, split: Split) -> tuple[list[Prediction], float]:
        """What parameters say of a split, undecided, and the loss."""
        size = self.config.batch_size + -self.config.batch_size % batch_shards(self.mesh)
        batches = ordered_batches(
            split.features.rows,
            batch_size=size,
            boundaries=sorted({*self.boundaries, self.config.sequence_length}),
        )
        logits, loss = predict(self.predict_step, params, batches, self.mesh)
        found = self.task.predict(logits, split.features, split.examples, self.data.labels)
        return found, loss

    def evaluate(self, params: Any) -> dict[str, float]:
        """The loss and the scores on the dev set."""
        found, loss = self.outputs(params, self.data.dev)
        found = self.task.decide(found, self.task.tune(found, self.data.dev.examples))
        return {"loss": loss, **self.task.score(found, self.data.dev.examples)}


def main(arguments: Sequence[str]) -> None:
    """Reads the command line, fine-tunes with each seed, and prints what to type next."""
    started = time.time()
    console = Console(soft_wrap=True, highlight=False, markup=False)
    keep_freed_memory()
    keep_compiled_programs()
    if arguments:
        best = finetune_seeds(from_command_line(arguments), arguments, console)
    else:
        best = compare_demo(console)
    if best is None:  # a signal; what there is is saved
        return
    console.print(
        f"\nDone in {(time.time() - started) / 60:.1f} minutes. Look at: {best}/README.md, "
        f"{best}/predictions.jsonl, {best}/curves.png\nType next:"
    )
    saved = read_json(best / "config.json")
    console.print(
        f"  python run_predict.py {find_task(saved['task']).command} --checkpoint {best} ..."
    )
    if can_be_merged(method_of(saved)) and saved["architecture"]:
        console.print(
            f"  python run_convert.py to-hf --checkpoint {best} --output DIR  # for transformers"
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
        folder = finetune_seeds(config, [], console)
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
    run = _open_run(config, arguments, console)
    saved_config = _saved_config(run)
    results = {}
    for seed in config.seeds:
        if len(config.seeds) > 1:
            console.print(f"\nseed {seed}")
        result = finetune(run, seed, _seed_dir(config, seed), saved_config | {"seeds": [seed]})
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
        best = _seed_dir(config, max(results, key=lambda seed: results[seed][run.task.best]))
    if config.export:
        to_hugging_face(best, config.export[1], console)
    return best


def _open_run(config: FinetuneConfig, arguments: Sequence[str], console: Console) -> Run:
    """Opens and checks everything before any work is spent, and says what there is."""
    task = config.find_task()
    source = open_source(Path(config.init_from))
    model = model_of(config, source)
    mesh = make_mesh(config.mesh)
    check_divides(mesh, "heads", model.num_attention_heads, "the model's heads")
    check_batch_size(config.batch_size, mesh, config.accumulation_steps)
    data = load_data(task, config, source.tokenizer, console.print)
    total_steps = config.epochs * steps_per_epoch(len(data.train.features.rows), config.batch_size)
    config.optimizer.validate(total_steps)
    objective = FinetuningObjective(
        task.model(model, data.labels),
        task.loss,
        batch_shapes(data.train.features),
        config.regularization,
        config.method,
        task.divergence,
    )
    shapes = nn.unbox(jax.eval_shape(objective.init, jax.random.key(0)))
    frozen = (
        *config.optimizer.frozen,
        *frozen_layers(config.frozen_layers, model.num_hidden_layers),
        *frozen_paths(config.method, shapes),
    )
    mask = frozen_mask(shapes, frozen)  # refuses names that freeze nothing
    optimizer = make_optimizer(
        dataclasses.replace(config.optimizer, frozen=frozen),
        config.learning_rate_schedule(total_steps),
    )
    start = warm_start(config, source, task, data.labels, shapes, console.print)
    sizes = [leaf.size for leaf in jax.tree.leaves(shapes)]
    parameters = sum(sizes)
    trained = parameters - sum(map(operator.mul, sizes, jax.tree.leaves(mask)))
    console.print(
        f"{task.name}: {parameters:,} parameters from {source.origin}"
        f"{'; fresh: ' + ', '.join(start.fresh) if start.fresh else ''}\n"
        f"trained: {trained:,} of {parameters:,} parameters ({trained / parameters:.2%})"
    )
    return Run(
        config,
        task,
        model,
        source,
        start,
        data,
        _boundaries(config, data),
        mesh,
        objective,
        optimizer,
        make_predict_step(objective, mesh),
        {} if config.method.name == "full" else frozen_part(start.params, frozen),
        console,
        shlex.join(["python", "run_finetune.py", *arguments]),
    )


def _boundaries(config: FinetuneConfig, data: Data) -> tuple[int, ...]:
    """Those that an interrupted run began with, on whatever device; else what costs least here."""
    earlier = earlier_config(_seed_dir(config, config.seeds[0]))
    if "boundaries" in earlier:
        return tuple(earlier["boundaries"])
    return length_boundaries(data.train.features.rows, config)


def _seed_dir(config: FinetuneConfig, seed: int) -> Path:
    """The work folder of one seed."""
    return Path(config.work_dir, *([f"seed-{seed}"] if len(config.seeds) > 1 else []))


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
    index, count = host_rows(mesh)
    earlier = earlier_config(work_dir)
    if run.unsaved and "base" in earlier:
        check_base(
            saved_config["base"]["fingerprint"], earlier["base"]["fingerprint"], config.init_from
        )
    check_same_run(work_dir, earlier, saved_config, FINETUNING_FIELDS)
    batches = TrainingBatches(
        data.train.features.rows,
        batch_size=config.batch_size,
        boundaries=run.boundaries,
        seed=seed,
        host_index=index,
        host_count=count,
    )
    epoch_steps = steps_per_epoch(len(data.train.features.rows), config.batch_size)
    stage = loop.Stage(
        steps=config.epochs * epoch_steps,
        batches=batches,
        evaluate=run.evaluate,
        flops_per_step=_flops(run),
        best=task.best,
    )
    run.console.print(
        f"{stage.steps:,} steps in {config.epochs} epochs, {batches.padding_share():.0%} padding, "
        f"on {described(mesh)}"
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
            fresh_state=lambda: with_params(
                init_state(run.objective, run.optimizer, mesh, seed), run.start.params
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
                labelled = task.is_labelled(split.examples, split.features)
                scores[name] = task.score(predictions[name], split.examples) if labelled else {}
        write_report(
            work_dir, config, task, data, rows, predictions, scores, run.source.origin, run.command
        )
        summary = {"step": best_step, "reason": outcome.reason, "scores": scores}
        write_json(work_dir / "summary.json", summary | {"settings": settings})
    return Result(scores["dev"], outcome.interrupted)


def _saved_config(run: Run) -> dict[str, Any]:
    """What the work folders and all checkpoints say of the runs, whatever their seeds."""
    saved = run.config.resolved() | {
        "model": dataclasses.asdict(run.model),
        "labels": list(run.data.labels),
        "architecture": run.task.architecture,
        "problem_type": run.task.problem_type,
        "data_fingerprint": run.data.train.features.fingerprint(),
        "dev_fingerprint": run.data.dev.features.fingerprint(),
        "start_fingerprint": fingerprint(run.start.params),
        "boundaries": list(run.boundaries),
    }
    if run.unsaved:
        saved["base"] = {
            "folder": str(Path(run.config.init_from).resolve()),
            "step": run.source.step,
            "fingerprint": fingerprint(run.unsaved),
        }
    return saved


def _flops(run: Run) -> float:
    """Model FLOPs of a step of the mean length."""
    rows = run.data.train.features.rows
    tokens = sum(row.tokens["input_ids"].size for row in rows) / len(rows)
    length = sum(row.length for row in rows) / len(rows)
    return model_flops(
        run.model,
        batch_size=round(run.config.batch_size * tokens / length),  # a row may be several choices
        sequence_length=round(length),
        max_predictions=0,
    )


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
