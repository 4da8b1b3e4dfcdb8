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
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from bert_jax import loop
from bert_jax.adapters import PART, can_be_merged, frozen_layers, frozen_paths, method_of
from bert_jax.base import check_base, fingerprint, frozen_part
from bert_jax.checkpoint import Checkpoints, load_params
from bert_jax.errors import UserError
from bert_jax.finetuning import FinetuningObjective, make_predict_step, predict
from bert_jax.flops import model_flops, peak_flops
from bert_jax.hugging_face import read_json
from bert_jax.machine import keep_compiled_programs, keep_freed_memory
from bert_jax.model import BertConfig
from bert_jax.optimizer import frozen_mask, make_optimizer
from bert_jax.sharding import batch_shards, check_batch_size, check_divides, host_rows, make_mesh
from bert_jax.tracker import Tracker, read_metrics
from bert_jax.train import init_state
from bert_jax.warm_start import WarmStart, match_params, with_params
from configs import finetune_demo as demo
from configs.errors import user_errors
from configs.export import to_hugging_face
from configs.finetune import FinetuneConfig, from_command_line
from configs.finetune_data import Data, Split, load_data
from configs.finetune_report import epochs_table, spread_table, write_report
from configs.source import Source, open_source
from configs.tasks.registry import find_task
from configs.tasks.task import Prediction, Task, batch_shapes
from configs.work_dir import check_same_run, earlier_config, first_start_of, locked
from data_pipeline.finetune.batches import TrainingBatches, ordered_batches
from data_pipeline.shards import write_json


class Run(NamedTuple):
    """What the runs of all seeds share.

    Attributes:
      config: the fine-tuning's.
      task: its task.
      model: the architecture.
      source: what it starts from.
      data: its examples.
      mesh: the devices.
      console: where to print.
      command: as it was typed.
    """

    config: FinetuneConfig
    task: Task[Any]
    model: BertConfig
    source: Source
    data: Data
    mesh: Mesh
    console: Console
    command: str


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
    task = config.find_task()
    source = open_source(Path(config.init_from))
    model = _model(config, source)
    mesh = make_mesh(config.mesh)
    check_divides(mesh, "heads", model.num_attention_heads, "the model's heads")
    check_batch_size(config.batch_size, mesh, config.accumulation_steps)
    data = load_data(task, config, source.tokenizer, console.print)
    command = shlex.join(["python", "run_finetune.py", *arguments])
    run = Run(config, task, model, source, data, mesh, console, command)
    results = {}
    for seed in config.seeds:
        folder = Path(config.work_dir)
        if len(config.seeds) > 1:
            folder /= f"seed-{seed}"
            console.print(f"\nseed {seed}")
        scores = finetune(run, seed, folder)
        if scores is None:
            return None
        results[seed] = scores
    best = Path(config.work_dir)
    if len(results) > 1:
        console.print(spread_table(results))
        best /= f"seed-{max(results, key=lambda seed: results[seed][task.best])}"
    if config.export:
        to_hugging_face(best, config.export[1], console)
    return best


def finetune(run: Run, seed: int, work_dir: Path) -> dict[str, float] | None:
    """One run of the loop and its report.

    Returns:
      The scores of the best epoch, None where a signal ended the run before its end.
    """
    config, task, data, mesh = run.config, run.task, run.data, run.mesh
    index, count = host_rows(mesh)
    batches = TrainingBatches(
        data.train.features.rows,
        batch_size=config.batch_size,
        max_length=config.sequence_length,
        seed=seed,
        host_index=index,
        host_count=count,
    )
    total_steps = config.epochs * batches.steps_per_epoch
    config.optimizer.validate(total_steps)
    objective = FinetuningObjective(
        task.model(run.model, data.labels),
        task.loss,
        batch_shapes(data.train.features),
        config.regularization,
        config.method,
    )
    shapes = nn.unbox(jax.eval_shape(objective.init, jax.random.key(0)))
    frozen = (
        *config.optimizer.frozen,
        *frozen_layers(config.frozen_layers, run.model.num_hidden_layers),
        *frozen_paths(config.method, shapes),
    )
    mask = frozen_mask(shapes, frozen)  # refuses names that freeze nothing
    optimizer = make_optimizer(
        dataclasses.replace(config.optimizer, frozen=frozen),
        config.learning_rate_schedule(total_steps),
    )
    start = _warm_start(run, shapes)
    unsaved = {} if config.method.name == "full" else frozen_part(start.params, frozen)
    saved_config = _saved_config(run, seed, unsaved)
    earlier = earlier_config(work_dir)
    if unsaved and "base" in earlier:
        check_base(
            saved_config["base"]["fingerprint"], earlier["base"]["fingerprint"], config.init_from
        )
    check_same_run(work_dir, earlier, saved_config)
    init = partial(init_state, objective, optimizer, mesh, seed)
    predict_step = make_predict_step(objective, mesh)

    def outputs(params: Any, split: Split) -> tuple[list[Prediction], float]:
        size = config.batch_size + -config.batch_size % batch_shards(mesh)
        ordered = ordered_batches(
            split.features.rows, batch_size=size, max_length=config.sequence_length
        )
        logits, loss = predict(predict_step, params, ordered, mesh)
        return task.predict(logits, split.features, split.examples, data.labels), loss

    def evaluate(params: Any) -> dict[str, float]:
        predictions, loss = outputs(params, data.dev)
        predictions = task.decide(predictions, task.tune(predictions, data.dev.examples))
        return {"loss": loss, **task.score(predictions, data.dev.examples)}

    stage = loop.Stage(
        steps=total_steps,
        batches=batches,
        evaluate=evaluate,
        flops_per_step=_flops(run),
        best=task.best,
    )
    sizes = [leaf.size for leaf in jax.tree.leaves(shapes)]
    parameters = sum(sizes)
    trained = parameters - sum(map(operator.mul, sizes, jax.tree.leaves(mask)))
    run.console.print(
        f"{task.name}: {parameters:,} parameters from {run.source.origin}"
        f"{'; fresh: ' + ', '.join(start.fresh) if start.fresh else ''}\n"
        f"trained: {trained:,} of {parameters:,} parameters ({trained / parameters:.2%})\n"
        f"{total_steps:,} steps in {config.epochs} epochs, {batches.padding_share():.0%} padding, "
        f"on {jax.device_count()} {jax.devices()[0].device_kind} device(s)"
    )
    with locked(work_dir), contextlib.ExitStack() as stack:
        first_start = first_start_of(work_dir, saved_config) or time.time()
        write_json(work_dir / "config.json", saved_config | {"first_start": first_start})
        run.source.tokenizer.save(work_dir)
        checkpoints = Checkpoints(work_dir / "checkpoints", keep=1, keep_best=True, base=unsaved)
        stack.callback(checkpoints.close)
        device_peak = peak_flops(jax.devices()[0].device_kind, run.model.dtype)
        outcome = loop.run(
            config.loop(batches.steps_per_epoch),
            [stage],
            objective=objective,
            optimizer=optimizer,
            mesh=mesh,
            checkpoints=checkpoints,
            open_tracker=lambda step: Tracker(work_dir, step),
            saved_config=saved_config,
            fresh_state=lambda: with_params(init(), start.params),
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
        run.console.print(epochs_table(rows, batches.steps_per_epoch, best_step))
        params = load_params(work_dir, best_step, lambda _: run.source.params)[0]
        predictions, scores, settings = {}, {}, {}
        for name, split in (("dev", data.dev), ("test", data.test)):
            if split is not None:
                found, _ = outputs(params, split)
                if name == "dev":
                    settings = task.tune(found, split.examples)
                predictions[name] = task.decide(found, settings)
                labelled = _is_labelled(split)
                scores[name] = task.score(predictions[name], split.examples) if labelled else {}
        write_report(
            work_dir, config, task, data, rows, predictions, scores, run.source.origin, run.command
        )
        summary = {"step": best_step, "reason": outcome.reason, "scores": scores}
        write_json(work_dir / "summary.json", summary | {"settings": settings})
    return scores["dev"]


def _model(config: FinetuneConfig, source: Source) -> BertConfig:
    """The source's architecture with the run's dropout and dtype.

    Raises:
      UserError: the run cannot start from the source.
    """
    model = source.model
    if PART in source.params:
        name, folder = source.saved["method"]["name"], config.init_from
        fix = f"start from its base {source.saved['base']['folder']}"
        if name == "lora":
            fix = f"merge it: python run_convert.py merge --checkpoint {folder} --output DIR"
        raise UserError(f"{source.origin} is no plain BERT but one with {name}; {fix}")
    if config.sequence_length > model.max_position_embeddings:
        raise UserError(
            f"sequence_length {config.sequence_length} is beyond the model's "
            f"{model.max_position_embeddings} positions; lower it"
        )
    model = dataclasses.replace(model, dtype=config.dtype)
    if config.dropout is None:
        return model
    return dataclasses.replace(
        model,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
    )


def _saved_config(run: Run, seed: int, unsaved: dict[str, np.ndarray]) -> dict[str, Any]:
    """What the work folder and every checkpoint say of the run."""
    saved = run.config.resolved() | {
        "seeds": [seed],
        "model": dataclasses.asdict(run.model),
        "labels": list(run.data.labels),
        "architecture": run.task.architecture,
        "data_fingerprint": run.data.fingerprint,
    }
    if unsaved:
        saved["base"] = {
            "folder": str(Path(run.config.init_from).resolve()),
            "step": run.source.step,
            "fingerprint": fingerprint(unsaved),
        }
    return saved


def _warm_start(run: Run, shapes: Any) -> WarmStart:
    """The source's parameters that the run uses.

    Raises:
      UserError: the source has another task's output layer.
    """
    if run.config.from_scratch:
        return WarmStart({}, ["everything"], [])
    loaded = dict(run.source.params)
    for head in set(shapes) - {"encoder", "pooler"}:
        if head not in loaded:
            continue
        labels = run.source.saved.get("labels", list(run.data.labels))
        same_shape = jax.tree.map(lambda x: x.shape, loaded[head]) == jax.tree.map(
            lambda x: x.shape, shapes[head]
        )
        if run.config.fresh_head:
            del loaded[head]
        elif not same_shape or labels != list(run.data.labels):
            raise UserError(
                f"{run.source.origin} has an output layer for other classes "
                f"({', '.join(labels) or 'a number'}) than the data; add --fresh-head to start "
                "with a new one"
            )
    return match_params(shapes, loaded, run.source.origin)


def _is_labelled(split: Split) -> bool:
    return any((row.values | row.tokens)["weights"].any() for row in split.features.rows)


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
