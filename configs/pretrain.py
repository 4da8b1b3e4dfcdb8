"""The configuration of a pre-training run."""

import dataclasses
import json
from dataclasses import field
from typing import Any

from bert_jax.bounds import check_bounds
from bert_jax.errors import UserError
from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.config import BertConfig
from bert_jax.models.registry import config_to_saved
from bert_jax.parallel.config import MeshConfig
from bert_jax.training.config import LoopConfig, OptimizerConfig
from data_pipeline.pretraining.config import DataConfig


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of the training with one sequence length.

    Attributes:
      steps: optimizer steps.
      sequence_length: tokens per sequence, including [CLS] and [SEP].
      batch_size: sequences (with data.packed: rows) per optimizer step, over all devices.
      max_predictions: prediction slots per sequence (with data.packed: per row).
      learning_rate: peak rate of this phase's own schedule; None if one schedule, the optimizer's,
        spans all phases.
      warmup_proportion: share of this phase's steps in which its own schedule warms up.
    """

    steps: int = field(metadata={"interval": "[1, inf)"})
    sequence_length: int = field(metadata={"interval": "[1, inf)"})
    batch_size: int = field(metadata={"interval": "[1, inf)"})
    max_predictions: int = field(metadata={"interval": "[1, inf)"})
    learning_rate: float | None = field(default=None, metadata={"interval": "(0, inf)"})
    warmup_proportion: float = field(default=0.0, metadata={"interval": "[0, 1]"})


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """Everything that a pre-training run depends on.

    Attributes:
      corpus: folder written by `python -m data_pipeline.prepare`.
      work_dir: folder for checkpoints, metrics and plots; the same command resumes the run in it.
      init_from: work folder of a run, or converted checkpoint, whose parameters and model sizes
        this run starts with.
      init_optimizer: also take Adam's moments and the step from there, to continue that run.
      seed: seed of parameters, dropout, order, pairs and masks.
      evaluation_examples: size of the fixed held-out set, rounded up to whole micro-batches; 0 for
        none.
      model: architecture.
      data: how examples are made.
      optimizer: optimizer and schedule, over all phases.
      mesh: how the devices share the work; it may change when a run is resumed.
      phases: trained one after the other.
      loop: logging, evaluation, checkpoints.
    """

    phases: tuple[Phase, ...]
    corpus: str = ""
    work_dir: str = ""
    init_from: str = ""
    init_optimizer: bool = False
    seed: int = field(default=0, metadata={"interval": "[0, 2147483647]"})
    evaluation_examples: int = field(default=1024, metadata={"interval": "[0, inf)"})
    model: EncoderConfig = BertConfig()
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    mesh: MeshConfig = MeshConfig()
    loop: LoopConfig = LoopConfig()

    @property
    def total_steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    def optimizers_of_phases(self) -> list[OptimizerConfig]:
        """The optimizers of the phases that have their own schedule: all phases or none."""
        return [
            dataclasses.replace(
                self.optimizer,
                learning_rate=phase.learning_rate,
                warmup_steps=None,
                warmup_proportion=phase.warmup_proportion,
            )
            for phase in self.phases
            if phase.learning_rate is not None
        ]

    def validate(self) -> None:
        """Refuses values that are out of range or do not fit together."""
        check_bounds(self)
        self.model.validate()
        self.loop.validate()
        self.mesh.validate()
        for number, phase in enumerate(self.phases):
            if phase.sequence_length > self.model.max_position_embeddings:
                raise UserError(
                    f"phases.{number}.sequence_length {phase.sequence_length} is more than the "
                    f"model's {self.model.max_position_embeddings} positions; lower it or raise "
                    "model.max_position_embeddings"
                )
            shortest = self.data.shortest_sequence
            if phase.sequence_length < shortest:
                raise UserError(
                    f"phases.{number}.sequence_length is {phase.sequence_length}; it must be at "
                    f"least {shortest}"
                )
            wanted = self.data.masked_lm_probability * phase.sequence_length
            # A packed row ends when its slots are used up; the rest of it is padding.
            least = 0.95 if self.data.packed else 0.8
            if phase.max_predictions < least * wanted:
                tokens = "tokens in a packed row" if self.data.packed else "tokens"
                raise UserError(
                    f"phases.{number}.max_predictions {phase.max_predictions} is too few for "
                    f"data.masked_lm_probability {self.data.masked_lm_probability} of "
                    f"{phase.sequence_length} {tokens}; raise it to {round(wanted)}"
                )
            if phase.max_predictions >= phase.sequence_length:
                raise UserError(
                    f"phases.{number}.max_predictions {phase.max_predictions} must be less than "
                    f"sequence_length {phase.sequence_length}; 15% of it is usual"
                )
        if self.data.pair_objective and self.model.type_vocab_size == 1:
            raise UserError(
                f"model.type_vocab_size is {self.model.type_vocab_size}; sentence pairs need 2"
            )
        self._validate_optimizer()

    def _validate_optimizer(self) -> None:
        own = self.optimizers_of_phases()
        if not own:
            for number, phase in enumerate(self.phases):
                if phase.warmup_proportion:
                    raise UserError(
                        f"phases.{number}.warmup_proportion is {phase.warmup_proportion}, but the "
                        f"phase has no learning rate; give phases.{number}.learning_rate, or "
                        "optimizer.warmup_proportion for the whole run"
                    )
            self.optimizer.validate()
            self.optimizer.check_warmup(self.total_steps)
            return
        if len(own) < len(self.phases):
            raise UserError(
                f"phases.N.learning_rate is given for {len(own)} of {len(self.phases)} phases; "
                "give it for all of them or for none"
            )
        for name in ("learning_rate", "warmup_steps", "warmup_proportion"):
            if (value := getattr(self.optimizer, name)) is not None:
                raise UserError(
                    f"optimizer.{name} is {value}, but each phase has its own learning_rate and "
                    f"warmup_proportion; set optimizer.{name} to None and change those"
                )
        for phase, optimizer in zip(self.phases, own, strict=True):
            optimizer.validate()
            optimizer.check_warmup(phase.steps)

    def resolved(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        values = dataclasses.asdict(self) | {"model": config_to_saved(self.model)}
        return json.loads(json.dumps(values))
