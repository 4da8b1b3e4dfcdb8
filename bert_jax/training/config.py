"""Options of the training loop and the optimizer."""

import dataclasses
from dataclasses import field
from typing import Literal

from bert_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """When the loop logs, evaluates and saves; all steps are optimizer steps.

    Attributes:
      log_every: steps between rows of metrics.jsonl, which are also written before each evaluation;
        the host waits for the device only then.
      evaluate_every: steps between evaluations on the held-out set; 0 evaluates only before the
        first step and after the last.
      save_every: steps between checkpoints.
      keep_checkpoints: number of latest checkpoints to keep.
      keep_best: also save and keep the checkpoint that is best on held-out data: the one with the
        lowest loss or, in fine-tuning, the highest score.
      patience: stop after this many evaluations in a row without a new best; 0 never stops early.
      accumulation_steps: micro-batches whose gradients make up one optimizer step.
    """

    log_every: int = field(default=100, metadata={"interval": "[1, inf)"})
    evaluate_every: int = field(default=10_000, metadata={"interval": "[0, inf)"})
    save_every: int = field(default=10_000, metadata={"interval": "[1, inf)"})
    keep_checkpoints: int = field(default=3, metadata={"interval": "[1, inf)"})
    keep_best: bool = False
    patience: int = field(default=0, metadata={"interval": "[0, inf)"})
    accumulation_steps: int = field(default=1, metadata={"interval": "[1, inf)"})

    def validate(self) -> None:
        """Raises UserError where options do not fit together."""
        if self.patience and not self.evaluate_every:
            raise UserError(
                f"loop.patience {self.patience} needs evaluations; set loop.evaluate_every"
            )


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer and learning-rate schedule; defaults are those of the original.

    Attributes:
      name: "bert_adamw" is the original's Adam without bias correction, "adamw" optax's with it
        (arXiv:1711.05101), "lamb" is for large batches (arXiv:1904.00962). All three decay kernels
        and embeddings only.
      learning_rate: the peak rate; None if each phase has its own rate and warmup.
      schedule: what follows the warmup, see docs/training.md.
      warmup_steps: steps of linear warmup; None if `warmup_proportion` is given.
      warmup_proportion: the same as a share of all steps.
      decay_power: exponent of the "linear" and "polynomial" schedules, usually 1.
      end_proportion: share of the peak rate that a decaying schedule ends with.
      weight_decay: decoupled decay of kernels and embeddings.
      beta_1: decay rate of the first moment.
      beta_2: decay rate of the second moment.
      epsilon: added outside the square root.
      max_gradient_norm: gradients are scaled down to this global norm.
      layer_decay: the rate of each block is this multiple of the rate of the block above it; the
        embeddings count as one more block, and the heads have the full rate.
      frozen: parameters that are not trained, by the first parts of their paths, such as
        "encoder/embeddings".
    """

    name: Literal["bert_adamw", "adamw", "lamb"] = "bert_adamw"
    learning_rate: float | None = field(default=1e-4, metadata={"interval": "(0, inf)"})
    schedule: Literal["linear", "polynomial", "cosine", "inverse_sqrt", "constant"] = "linear"
    warmup_steps: int | None = field(default=10_000, metadata={"interval": "[0, inf)"})
    warmup_proportion: float | None = field(default=None, metadata={"interval": "[0, 1]"})
    decay_power: float = field(default=1.0, metadata={"interval": "(0, inf)"})
    end_proportion: float = field(default=0.0, metadata={"interval": "[0, 1]"})
    weight_decay: float = field(default=0.01, metadata={"interval": "[0, inf)"})
    beta_1: float = field(default=0.9, metadata={"interval": "[0, 1)"})
    beta_2: float = field(default=0.999, metadata={"interval": "[0, 1)"})
    epsilon: float = field(default=1e-6, metadata={"interval": "(0, inf)"})
    max_gradient_norm: float = field(default=1.0, metadata={"interval": "(0, inf)"})
    layer_decay: float = field(default=1.0, metadata={"interval": "(0, 1]"})
    frozen: tuple[str, ...] = ()

    def validate(self) -> None:
        """Raises UserError where options are missing or contradict each other."""
        if (self.warmup_steps is None) == (self.warmup_proportion is None):
            raise UserError(
                f"optimizer.warmup_steps is {self.warmup_steps} and optimizer.warmup_proportion "
                f"is {self.warmup_proportion}; give one of them and set the other to None"
            )
        if self.learning_rate is None:
            raise UserError("optimizer.learning_rate is None; give the peak rate")

    def check_warmup(self, total_steps: int) -> None:
        """Raises UserError where the warmup outlasts the run."""
        if self.warmup_steps is not None and not 0 <= self.warmup_steps <= total_steps:
            raise UserError(
                f"optimizer.warmup_steps is {self.warmup_steps}; it must be between 0 and the "
                f"run's {total_steps} steps, usually --optimizer.warmup-steps "
                f"{max(total_steps // 10, 1)}"
            )
