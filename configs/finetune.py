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

# A few parameters that start near zero need larger steps than all weights do.
USUAL_RATES = {
    "full": 5e-5,
    "lora": 5e-4,
    "houlsby": 1e-3,
    "pfeiffer": 1e-3,
    "prefix": 5e-3,
    "bitfit": 1e-3,
}


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
    """A fine-tuning.

    Attributes:
      task: name of a task, or a Python file that defines TASK.
      init_from: work folder of a run, converted checkpoint, or folder of transformers or of
        google-research/bert.
      data: folder with the task's files under their usual names, or the name of the data in
        TensorFlow Datasets, such as glue/sst2.
      train: training file, instead of the one in data; tfds:NAME/CONFIG/SPLIT for TensorFlow
        Datasets.
      dev: file that is scored after each epoch to find the best one, instead of the one in data.
      test: file to predict at the end, and to score if it has labels.
      work_dir: folder for checkpoints, metrics, predictions and report; runs/TASK if empty.
      export: "hf DIR" also writes the best epoch's model as a folder that transformers can load.
      columns: columns of the tables, where they differ from the task's own.
      sequence_length: longest input in tokens; longer ones are cut or windowed, and counted.
      batch_size: examples per optimizer step.
      epochs: passes over the training examples.
      train_examples: use only the first so many training examples; 0 uses all.
      seeds: seeds of dropout, order and the new layer; each has a run, and their spread is shown.
      dropout: dropout of hidden states and attention, instead of the checkpoint's.
      from_scratch: use only the architecture and the tokenizer of init_from, not its parameters, to
        see what pre-training is worth.
      fresh_head: start with a new output layer even if the checkpoint has one.
      class_weights: "balanced" weights each class by one over its frequency.
      patience: stop after this many epochs without a better score; 0 never stops early.
      log_every: steps between rows of metrics.jsonl.
      accumulation_steps: micro-batches per optimizer step.
      dtype: compute dtype.
      method: train all weights, or a few of them, or a few extra ones.
      frozen_layers: freeze the embeddings and this many of the lowest blocks; 0 freezes nothing.
      optimizer: optimizer and schedule. "adamw" corrects the bias of Adam's moments, without which
        training on small data sets is unstable (arXiv:2006.05987). A learning rate of None stands
        for the usual one of the method.
      regularization: against overfitting.
      mesh: how the devices share the work.
    """

    task: Positional[str] = ""
    init_from: str = ""
    data: str = ""
    train: str = ""
    dev: str = ""
    test: str = ""
    work_dir: str = ""
    export: tuple[str, Path] | None = None
    columns: ColumnOptions = ColumnOptions()
    # [CLS], two [SEP] and a token of each text are the least.
    sequence_length: int = field(default=128, metadata={"interval": "[5, inf)"})
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
        """The work folder of a seed."""
        return Path(self.work_dir, *([f"seed-{seed}"] if len(self.seeds) > 1 else []))

    @property
    def export_record(self) -> Path:
        """The file that records which seeds' best was exported, and to which folder."""
        return Path(self.work_dir, "export.json")

    def loop(self, steps_per_epoch: int) -> LoopConfig:
        """The loop's settings: it evaluates after each epoch and keeps the best one."""
        return LoopConfig(
            log_every=self.log_every,
            evaluate_every=steps_per_epoch,
            save_every=min(steps_per_epoch, 500),  # 500 as in the Trainer of transformers
            keep_checkpoints=1,
            keep_best=True,
            patience=self.patience,
            accumulation_steps=self.accumulation_steps,
        )

    def validate(self) -> None:
        """Refuses values that are missing, out of range or do not fit together."""
        check_bounds(self)
        if not self.init_from:
            raise UserError("--init-from is empty; name the folder of a pre-trained checkpoint")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"seeds is {self.seeds}; give one or more numbers, all different")
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
                f"method.name {self.method.name} needs a pre-trained encoder, so it cannot be used "
                "with --from-scratch; leave one of them out"
            )

    def resolved(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        values = dataclasses.asdict(self)
        del values["export"]  # has no part in the training
        return json.loads(json.dumps(values))
