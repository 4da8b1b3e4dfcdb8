"""Opens what a fine-tuning needs and checks it before any work is spent; all seeds share it."""

import dataclasses
import operator
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from bert_jax.models.adapters import check_method, frozen_layers, frozen_paths
from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.flops import model_flops
from bert_jax.models.registry import architecture_of, config_to_saved
from bert_jax.objectives.finetuning import (
    FinetuningObjective,
    PredictStep,
    make_predict_step,
    predict,
)
from bert_jax.parallel.sharding import batch_shards, check_batch_size, check_divides, make_mesh
from bert_jax.tasks.task import Outputs, Prediction, Task, objective_of
from bert_jax.training.optimizer import (
    Optimizer,
    frozen_mask,
    learning_rate_schedule,
    make_optimizer,
)
from bert_jax.training.partial import fingerprint, frozen_part
from bert_jax.training.saved_params import saved_steps
from bert_jax.training.warm_start import WarmStart
from commands.finetune.command_line import check_exporter, task_of
from commands.finetune.data import Data, Split, length_boundaries, load_data
from commands.finetune.start import model_of, warm_start
from commands.same_run import earlier_config
from commands.saved_model import SavedModel, check_stays, open_model
from configs.finetune import FinetuneConfig
from data_pipeline.finetune.batches import ordered_batches, steps_per_epoch


class Run(NamedTuple):
    """What the runs of all seeds share.

    Attributes:
      source: the checkpoint to start from.
      start: the parameters of the source that are used.
      boundaries: lengths of the batches; a resumed run keeps those that it began with, even where
        others would cost less.
      unsaved: the parameters that checkpoints leave out, because the source has them.
      command: the command line.
    """

    config: FinetuneConfig
    task: Task[Any]
    model: EncoderConfig
    source: SavedModel
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

    @property
    def origin(self) -> str:
        """Where the parameters come from, for messages."""
        if self.config.from_scratch:
            return f"scratch, in the architecture and with the vocabulary of {self.source.origin}"
        return self.source.origin

    def outputs(self, params: Any, split: Split) -> tuple[list[Prediction], float]:
        """The predictions for a split, not yet decided (see `Task.decide`), and the loss."""
        size = self.config.batch_size + -self.config.batch_size % batch_shards(self.mesh)
        batches = ordered_batches(
            split.features.rows,
            batch_size=size,
            boundaries=sorted({*self.boundaries, self.config.sequence_length}),
        )
        logits, loss = predict(self.predict_step, params, batches, self.mesh)
        outputs = Outputs(logits, split.features, split.examples, self.data.labels)
        return self.task.predict(outputs), loss

    def evaluate(self, params: Any) -> dict[str, float]:
        """The loss and the scores on the dev set."""
        found, loss = self.outputs(params, self.data.dev)
        found = self.task.decide(found, self.task.tune(found, self.data.dev.examples))
        return {"loss": loss, **self.task.score(found, self.data.dev.examples)}

    def saved_config(self) -> dict[str, Any]:
        """The configuration that work folders and checkpoints record, apart from the seed."""
        saved = self.config.resolved() | {
            "model": config_to_saved(self.model),
            "labels": list(self.data.labels),
            "architecture": architecture_of(self.model).class_with(self.task.head),
            "problem_type": self.task.problem_type,
            "data_fingerprint": self.data.train.features.fingerprint(),
            "dev_fingerprint": self.data.dev.fingerprint(),
            "start_fingerprint": fingerprint(self.start.params),
            "start_step": self.source.step,
            "boundaries": list(self.boundaries),
        }
        if self.unsaved:
            saved["base"] = {
                "folder": str(Path(self.config.init_from).resolve()),
                "step": self.source.step,
                "fingerprint": fingerprint(self.unsaved),
            }
        return saved

    def flops_per_step(self) -> float:
        """Model FLOPs of a step of mean length; the choices of a row count as sequences."""
        rows = self.data.train.features.rows
        tokens = sum(row.tokens["input_ids"].size for row in rows) / len(rows)
        length = sum(row.length for row in rows) / len(rows)
        return model_flops(
            self.model,
            batch_size=round(self.config.batch_size * tokens / length),
            sequence_length=round(length),
            max_predictions=0,
        )


def open_run(config: FinetuneConfig, arguments: Sequence[str], console: Console) -> Run:
    """Opens and checks everything for the command line `arguments`, and prints what was found."""
    task = task_of(config)
    folder = Path(config.init_from)
    earlier = next(
        filter(None, (earlier_config(config.seed_dir(seed)) for seed in config.seeds)), {}
    )
    # If the source is itself in training, it has newer checkpoints than when this run began.
    step = earlier.get("start_step")
    source = open_model(folder, step if step in saved_steps(folder) else None)
    if config.method.name != "full":
        check_stays(folder, config.method.name)
    model = model_of(config, source)
    architecture = architecture_of(model)
    check_method(config.method, architecture)
    if config.export:
        check_exporter(config, task, architecture.class_with(task.head))
    mesh = make_mesh(config.mesh)
    check_divides(mesh, "heads", model.num_attention_heads, "the model's heads")
    check_batch_size(config.batch_size, mesh, config.accumulation_steps)
    data = load_data(task, config, source.tokenizer, console.print)
    total_steps = config.epochs * steps_per_epoch(len(data.train.features.rows), config.batch_size)
    config.optimizer.check_warmup(total_steps)
    objective = objective_of(
        task, model, data.labels, data.train.features, config.method, config.regularization
    )
    shapes = nn.unbox(jax.eval_shape(objective.init, jax.random.key(0)))
    frozen = (
        *config.optimizer.frozen,
        *frozen_layers(config.frozen_layers, architecture.blocks(model)),
        *frozen_paths(config.method, shapes),
    )
    mask = frozen_mask(shapes, frozen)  # raises for names that match nothing
    optimizer = make_optimizer(
        dataclasses.replace(config.optimizer, frozen=frozen),
        learning_rate_schedule(config.optimizer, total_steps),
        architecture.blocks(model),
    )
    start = warm_start(config, source, task, data.labels, shapes, console.print)
    sizes = [leaf.size for leaf in jax.tree.leaves(shapes)]
    parameters = sum(sizes)
    trained = parameters - sum(map(operator.mul, sizes, jax.tree.leaves(mask)))
    boundaries = earlier.get("boundaries") or length_boundaries(data.train.features.rows, config)
    run = Run(
        config=config,
        task=task,
        model=model,
        source=source,
        start=start,
        data=data,
        boundaries=tuple(boundaries),
        mesh=mesh,
        objective=objective,
        optimizer=optimizer,
        predict_step=make_predict_step(objective, mesh),
        unsaved={} if config.method.name == "full" else frozen_part(start.params, frozen),
        console=console,
        command=shlex.join(["python", "run_finetune.py", *arguments]),
    )
    console.print(
        f"{task.name}: {parameters:,} parameters from {run.origin}"
        f"{'; fresh: ' + ', '.join(start.fresh) if start.fresh else ''}\n"
        f"trained: {trained:,} of {parameters:,} parameters ({trained / parameters:.2%})"
    )
    return run
