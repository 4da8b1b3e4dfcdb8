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
    """A stretch of training with sequences of one length.

    Attributes:
      steps: optimizer steps.
      sequence_length: tokens of a sequence, [CLS] and [SEP] among them.
      batch_size: sequences (with data.packed: rows) per optimizer step, over all devices.
      max_predictions: prediction slots of a sequence (with data.packed: of a row).
      learning_rate: peak rate of a schedule of this phase's own, over its own steps; None where the
        optimizer's schedule goes on over all phases.
      warmup_proportion: share of this phase's steps that its own schedule warms up.
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
      corpus: folder that `python -m data_pipeline.prepare` wrote.
      work_dir: folder of the run: checkpoints, metrics, plots. The same command continues there.
      init_from: work folder of a run or converted checkpoint whose parameters this run starts from;
        the model's sizes are taken from it.
      init_optimizer: take Adam's moments and the step from there too, to go on where it stopped.
      seed: of parameters, dropout, order, pairs and masks.
      evaluation_examples: size of the fixed held-out set, rounded up to whole
        micro-batches; 0 for none.
      model: architecture.
      data: how examples are made.
      optimizer: optimizer and schedule, over all phases.
      mesh: how the devices share the work; a resume may change it.
      phases: trained one after the other with one line of checkpoints.
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
        """The optimizer of each phase that has a schedule of its own: all of them or none."""
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
        """Raises UserError where a value is out of range or two do not fit together."""
        check_bounds(self)
        self.model.validate()
        self.loop.validate()
        self.mesh.validate()
        for number, phase in enumerate(self.phases):
            if phase.sequence_length > self.model.max_position_embeddings:
                raise UserError(
                    f"phases.{number}.sequence_length {phase.sequence_length} is beyond the "
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
            # A packed row ends when its slots are used up, and the rest of it would be padding.
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
                    f"phases.{number}.max_predictions {phase.max_predictions} does not fit "
                    f"sequence_length {phase.sequence_length}; usual is 15% of it"
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
                        f"phase has no learning_rate of its own; give phases.{number}."
                        "learning_rate, or optimizer.warmup_proportion for the whole run"
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
                    f"optimizer.{name} is {value}, but each phase has a learning_rate and a "
                    f"warmup_proportion of its own; set optimizer.{name} to None and change those"
                )
        for phase, optimizer in zip(self.phases, own, strict=True):
            optimizer.validate()
            optimizer.check_warmup(phase.steps)

    def resolved(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        values = dataclasses.asdict(self) | {"model": config_to_saved(self.model)}
        return json.loads(json.dumps(values))
