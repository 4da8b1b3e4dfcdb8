"""What a fine-tuned checkpoint says of new examples."""

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
from data_pipeline.tokenization.interface import Tokenizer

CHUNK = 2048  # examples that are in memory at a time
Numbered = tuple[np.ndarray, dict[str, np.ndarray]]


class Predictor(NamedTuple):
    """A fine-tuned model with its task.

    Attributes:
      task: its task.
      labels: names of the classes.
      sequence_length: as it was fine-tuned.
      tokenizer: its tokenizer.
      model: its architecture.
      params: its parameters.
      settings: what its dev set decided, for `Task.decide`.
      method: which of them are beside the model's own.
    """

    task: Task[Any]
    labels: tuple[str, ...]
    sequence_length: int
    tokenizer: Tokenizer
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
        """Predictions, a list for each `CHUNK` of examples.

        Args:
          examples: as the task reads them.
          batch_size: features at a time.
          progress: in examples.
          say: for what is cut.
        """
        started = time.monotonic()
        cut = 0

        def watched(first: int, share: float, batches: Iterator[Numbered]) -> Iterator[Numbered]:
            """The batches; `share` examples each feature on the bar, from the number `first` on."""
            taken = 0
            for numbers, batch in batches:
                yield numbers, batch
                taken += len(numbers)
                done = first + round(taken * share)
                progress.step(done)
                progress.metrics(f"{done / (time.monotonic() - started):,.0f} examples/s")

        mesh = make_mesh(devices=jax.local_devices()[:1])
        how = Encoding(self.tokenizer, self.sequence_length, self.labels)
        step = None
        for first in range(0, len(examples), CHUNK):
            chunk = examples[first : first + CHUNK]
            features = self.task.features(chunk, how)
            cut += features.cut
            for note in features.notes:
                say(note)
            if step is None:
                objective = objective_of(self.task, self.model, self.labels, features, self.method)
                step = make_predict_step(objective, mesh)
            batches = ordered_batches(
                features.rows,
                batch_size=batch_size,
                boundaries=bucket_boundaries(self.sequence_length),
            )
            batches = watched(first, len(chunk) / len(features.rows), batches)
            logits: list[np.ndarray] = predict(step, self.params, batches, mesh)[0]
            found = self.task.predict(Outputs(logits, features, chunk, self.labels))
            yield self.task.decide(found, self.settings)
        if cut:
            say(f"{cut:,} of {len(examples):,} are longer than {self.sequence_length} tokens, cut")


def open_predictor(
    folder: Path, step: int | None, command: str, say: Callable[[str], None]
) -> Predictor:
    """Reads a fine-tuned checkpoint.

    Args:
      folder: work folder of a fine-tuning.
      step: which checkpoint; the best by default.
      command: of run_predict.py; the task must be of its kind.
      say: for what the user should know.

    Raises:
      UserError: the folder holds another kind of model.
    """
    source = open_model(folder, step)
    if not (folder / "checkpoints").is_dir() and {"classifier", "span"} & set(source.params):
        raise UserError(
            f"{folder} is a folder of transformers, which does not say how its task is read; ask "
            "the run that it was exported from, or use transformers"
        )
    if "task" not in source.saved:
        raise UserError(
            f"{folder} was not fine-tuned, so it has no answer to {command!r}; fine-tune it with: "
            f"python run_finetune.py TASK --init-from {folder} --data DIR"
        )
    if is_unfinished(folder):
        say(f"{folder} has not been trained to its end; this is its step {source.step}")
    task = saved_task(source.saved)
    if task.command != command:
        raise UserError(
            f"{folder} was fine-tuned for {task.name}; ask it with: run_predict.py {task.command}"
        )
    return Predictor(
        task,
        tuple(source.saved["labels"]),
        source.saved["sequence_length"],
        source.tokenizer,
        source.model,
        source.params,
        settings_of(folder, source.step, say),
        method_of(source.saved),
    )
