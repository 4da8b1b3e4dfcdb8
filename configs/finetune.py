"""The configuration of a fine-tuning."""

import dataclasses
import json
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from bert_jax.bounds import check_bounds
from bert_jax.errors import UserError
from bert_jax.models.config import MethodConfig
from bert_jax.objectives.config import RegularizationConfig
from bert_jax.parallel.config import MeshConfig
from bert_jax.tasks.columns import ColumnOptions
from bert_jax.training.config import LoopConfig, OptimizerConfig

# Few parameters that start near zero need larger steps than all weights do.
USUAL_RATES = {
    "full": 5e-5,
    "lora": 5e-4,
    "houlsby": 1e-3,
    "pfeiffer": 1e-3,
    "prefix": 5e-3,
    "bitfit": 1e-3,
}


# Steps between checkpoints within a long epoch, as in the Trainer of transformers.
_SAVE_EVERY = 500


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
    """A fine-tuning.

    Attributes:
      task: name of a task, or a Python file that defines TASK.
      init_from: work folder of a run, converted checkpoint, or folder of transformers or of
        google-research/bert.
      data: folder that holds the task's files under their usual names, or what TensorFlow Datasets
        calls the data, such as glue/sst2.
      train: training file instead; tfds:NAME/CONFIG/SPLIT for TensorFlow Datasets.
      dev: file whose scores are shown and tell the best epoch, instead.
      test: file to predict at the end; labels in it are scored.
      work_dir: folder of the run: checkpoints, metrics, predictions, report; runs/TASK if empty.
      export: "hf DIR" also writes the best epoch's model as a folder that transformers loads.
      columns: columns of the tables, where they are not the task's own.
      sequence_length: longest input in tokens; what is longer is cut, or windowed, and counted.
      batch_size: examples of an optimizer step.
      epochs: how often each training example is seen.
      train_examples: take only the first so many; 0 takes all.
      seeds: of dropout, order and the new layer; several give a run each and their spread.
      dropout: of hidden states and attention, instead of the checkpoint's.
      from_scratch: take the architecture and the tokenizer of init_from and not its parameters, to
        see what pre-training is worth.
      fresh_head: start with a new output layer where the checkpoint has another task's.
      class_weights: "balanced" weighs classes by one over their frequency.
      patience: stop after so many epochs without a better score; 0 never stops.
      log_every: steps between rows of metrics.jsonl.
      accumulation_steps: micro-batches whose gradients make one optimizer step.
      dtype: compute dtype.
      method: all weights, or a small part of them or beside them.
      frozen_layers: the embeddings and so many of the lowest blocks stay as they are.
      optimizer: optimizer and schedule. "adamw" corrects the bias of Adam's moments, without which
        small data sets train unstably (arXiv:2006.05987). A learning rate of None is the one usual
        for the method.
      regularization: against learning by heart.
      mesh: how the devices share the work.
    """

    task: Positional[str] = ""
    init_from: str = ""
    data: str = ""
    train: str = ""
    dev: str = ""
    test: str = ""
    work_dir: str = ""
    export: tuple[Literal["hf"], Path] | None = None
    columns: ColumnOptions = ColumnOptions()
    sequence_length: int = 128
    batch_size: int = field(default=32, metadata={"interval": "[1, inf)"})
    epochs: int = field(default=3, metadata={"interval": "[1, inf)"})
    train_examples: int = field(default=0, metadata={"interval": "[0, inf)"})
    seeds: tuple[int, ...] = field(default=(0,), metadata={"interval": "[0, 2147483647]"})
    dropout: float | None = field(default=None, metadata={"interval": "[0, 1)"})
    from_scratch: bool = False
    fresh_head: bool = False
    class_weights: Literal["none", "balanced"] = "none"
    patience: int = field(default=0, metadata={"interval": "[0, inf)"})
    log_every: int = field(default=10, metadata={"interval": "[1, inf)"})
    accumulation_steps: int = field(default=1, metadata={"interval": "[1, inf)"})
    dtype: Literal["float32", "bfloat16"] = "float32"
    method: MethodConfig = MethodConfig()
    frozen_layers: int = field(default=0, metadata={"interval": "[0, inf)"})
    optimizer: OptimizerConfig = OptimizerConfig(
        name="adamw", learning_rate=None, warmup_steps=None, warmup_proportion=0.1
    )
    regularization: RegularizationConfig = RegularizationConfig()
    mesh: MeshConfig = MeshConfig()

    def seed_dir(self, seed: int) -> Path:
        """The work folder of one seed."""
        return Path(self.work_dir, *([f"seed-{seed}"] if len(self.seeds) > 1 else []))

    @property
    def export_record(self) -> Path:
        """The file that says where the best of which seeds was exported to."""
        return Path(self.work_dir, "export.json")

    def loop(self, steps_per_epoch: int) -> LoopConfig:
        """The loop's settings: it evaluates after each epoch and keeps the best."""
        return LoopConfig(
            log_every=self.log_every,
            evaluate_every=steps_per_epoch,
            save_every=min(steps_per_epoch, _SAVE_EVERY),
            keep_checkpoints=1,
            keep_best=True,
            patience=self.patience,
            accumulation_steps=self.accumulation_steps,
        )

    def validate(self) -> None:
        """Raises UserError where a value is out of range or something is lacking."""
        check_bounds(self)
        if not self.init_from:
            raise UserError("--init-from is empty; name the folder of a pre-trained checkpoint")
        if self.sequence_length < 5:
            raise UserError(
                f"sequence_length is {self.sequence_length}; it must be at least 5: [CLS], two "
                "[SEP] and a token of each text"
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"seeds is {self.seeds}; give one or several different numbers")
        self.optimizer.validate()
        self.method.validate()
        self.mesh.validate()
        if self.frozen_layers and self.method.name != "full":
            raise UserError(
                f"frozen_layers is {self.frozen_layers}, but method.name {self.method.name} "
                "freezes the encoder already; leave one of them out"
            )
        if self.from_scratch and self.method.name != "full":
            raise UserError(
                f"method.name {self.method.name} trains a small part beside a pre-trained encoder, "
                "so --from-scratch has no use with it; leave one of them out"
            )

    def resolved(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        values = dataclasses.asdict(self)
        del values["export"]  # has no part in the training
        return json.loads(json.dumps(values))
