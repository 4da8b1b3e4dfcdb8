"""Predicts for new examples with a fine-tuned checkpoint."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from bert_jax.errors import UserError
from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.config import MethodConfig, method_of
from bert_jax.monitoring.tracker import ProgressBar
from bert_jax.objectives.finetuning import make_predict_step, predict
from bert_jax.parallel.sharding import make_mesh
from bert_jax.tasks.registry import saved_task
from bert_jax.tasks.task import Encoding, Outputs, Prediction, Task, objective_of
from commands.saved_model import is_unfinished, open_model, settings_of
from data_pipeline.finetune.batches import ordered_batches
from data_pipeline.finetune.buckets import bucket_boundaries

CHUNK = 2048  # examples in memory at a time
Numbered = tuple[np.ndarray, dict[str, np.ndarray]]


class Predictor(NamedTuple):
    """A fine-tuned model with its task.

    Attributes:
      encoding: how examples become features, as in the fine-tuning.
      settings: what `Task.tune` chose, for `Task.decide`.
      method: how it was fine-tuned.
    """

    task: Task[Any]
    encoding: Encoding
    model: EncoderConfig
    params: Any
    settings: dict[str, Any]
    method: MethodConfig

    def predict(
        self,
        examples: Sequence[Any],
        batch_size: int,
        progress: ProgressBar,
        say: Callable[[str], None],
    ) -> Iterator[list[Prediction]]:
        """Predictions, a list for each `CHUNK` of examples; `progress` counts examples."""
        started = time.monotonic()
        cut = 0

        def watched(first: int, share: float, batches: Iterator[Numbered]) -> Iterator[Numbered]:
            """The batches; the bar advances from `first` by `share` examples per feature."""
            taken = 0
            for numbers, batch in batches:
                yield numbers, batch
                taken += len(numbers)
                done = first + round(taken * share)
                progress.step(done)
                progress.metrics(f"{done / (time.monotonic() - started):,.0f} examples/s")

        mesh = make_mesh(devices=jax.local_devices()[:1])
        length, labels = self.encoding.max_length, self.encoding.labels
        step = None
        for first in range(0, len(examples), CHUNK):
            chunk = examples[first : first + CHUNK]
            features = self.task.features(chunk, self.encoding)
            cut += features.cut
            for note in features.notes:
                say(note)
            if step is None:
                objective = objective_of(self.task, self.model, labels, features, self.method)
                step = make_predict_step(objective, mesh)
            batches = ordered_batches(
                features.rows, batch_size=batch_size, boundaries=bucket_boundaries(length)
            )
            batches = watched(first, len(chunk) / len(features.rows), batches)
            logits: list[np.ndarray] = predict(step, self.params, batches, mesh)[0]
            found = self.task.predict(Outputs(logits, features, chunk, labels))
            yield self.task.decide(found, self.settings)
        if cut:
            say(f"{cut:,} of {len(examples):,} are longer than {length} tokens and are cut")


def open_predictor(
    folder: Path, step: int | None, command: str, say: Callable[[str], None]
) -> Predictor:
    """Reads the checkpoint of a fine-tuning whose task has this command of run_predict.py."""
    source = open_model(folder, step)
    if not (folder / "checkpoints").is_dir() and {"classifier", "span"} & set(source.params):
        raise UserError(
            f"{folder} is a folder of transformers, which does not say what its task is; use the "
            "run that it was exported from, or transformers"
        )
    if "task" not in source.saved:
        raise UserError(
            f"{folder} was not fine-tuned, so {command!r} is not for it; fine-tune it with: "
            f"python run_finetune.py TASK --init-from {folder} --data DIR"
        )
    if is_unfinished(folder):
        say(f"{folder} has not been trained to the end; this is step {source.step}")
    task = saved_task(source.saved)
    if task.command != command:
        raise UserError(
            f"{folder} was fine-tuned for {task.name}; its command is: run_predict.py "
            f"{task.command}"
        )
    labels = tuple(source.saved["labels"])
    return Predictor(
        task,
        Encoding(source.tokenizer, source.saved["sequence_length"], labels),
        source.model,
        source.params,
        settings_of(folder, source.step, say),
        method_of(source.saved),
    )
