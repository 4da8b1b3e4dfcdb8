"""The configuration of a pre-training run, and how it is read from the command line."""

import dataclasses
import difflib
import inspect
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh

from bert_jax.errors import UserError
from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.bert import BertConfig
from bert_jax.models.registry import open_model, saved_model
from bert_jax.parallel.distributed import DistributedConfig
from bert_jax.parallel.sharding import MeshConfig, check_batch_size, check_divides, make_mesh
from bert_jax.training.loop import LoopConfig
from bert_jax.training.optimizer import OptimizerConfig, learning_rate_schedule
from data_pipeline.command_line import parse
from data_pipeline.pretraining.batches import DataConfig


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

    steps: int
    sequence_length: int
    batch_size: int
    max_predictions: int
    learning_rate: float | None = None
    warmup_proportion: float = 0.0


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
    seed: int = 0
    evaluation_examples: int = 1024
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

    def make_mesh(self, devices: Sequence[jax.Device] | None = None) -> Mesh:
        """The mesh, on all devices by default.

        Raises:
          UserError: it does not fit the devices, the heads or the batches.
        """
        mesh = make_mesh(self.mesh, devices)
        check_divides(mesh, "heads", self.model.num_attention_heads, "model.num_attention_heads")
        for phase in self.phases:
            check_batch_size(phase.batch_size, mesh, self.loop.accumulation_steps)
        return mesh

    def learning_rate_schedule(self) -> optax.Schedule:
        """The learning rate of every step of the run: step -> float32 scalar."""
        own = self.optimizers_of_phases()
        if not own:
            return learning_rate_schedule(self.optimizer, self.total_steps)
        steps = [phase.steps for phase in self.phases]
        schedules = map(learning_rate_schedule, own, steps)
        return optax.join_schedules(list(schedules), list(itertools.accumulate(steps))[:-1])

    def validate(self) -> None:
        """Raises UserError where a value is out of range or two do not fit together."""
        self.model.validate()
        self.loop.validate()
        for number, phase in enumerate(self.phases):
            for name in ("steps", "sequence_length", "batch_size", "max_predictions"):
                if getattr(phase, name) < 1:
                    raise UserError(
                        f"phases.{number}.{name} is {getattr(phase, name)}; it must be positive"
                    )
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
        if not 0 <= self.seed < 1 << 31:
            raise UserError(f"seed is {self.seed}; it must be within 0 and 2147483647")
        self._validate_optimizer()
        if self.evaluation_examples < 0:
            raise UserError(
                f"evaluation_examples is {self.evaluation_examples}; it must not be negative"
            )

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
        values = dataclasses.asdict(self) | {"model": saved_model(self.model)}
        return json.loads(json.dumps(values))


class Request(NamedTuple):
    """What a command line asks for.

    Attributes:
      recipe: its name.
      config: the validated configuration, overrides applied.
      dry_run: only show what the run would be.
      learning_rates: only print the learning rate of each step.
      profile: write a trace of a few steps.
      compile_for: only compile the train steps for this TPU topology; empty to train.
      distributed: how the processes of the run find each other.
    """

    recipe: str
    config: PretrainConfig
    dry_run: bool
    learning_rates: bool
    profile: bool
    compile_for: str
    distributed: DistributedConfig


@dataclasses.dataclass(frozen=True)
class _CommandLine(PretrainConfig):
    dry_run: bool = False
    """Show what the run would be (configuration, size, memory, schedule, a batch) and exit."""

    learning_rates: bool = False
    """Print the number of each step and its learning rate and exit."""

    profile: bool = False
    """Write a profiler trace of a few steps to work_dir/profile, say where it is, and go on."""

    compile_for: str = ""
    """Compile the train steps for a TPU that is not there, such as v5e:4x4, print what the compiler
    says of memory, cycles and collectives, and exit. Needs no corpus."""
    distributed: DistributedConfig = DistributedConfig()
    """How the processes of a run on several hosts find each other; not part of what is saved."""


def from_command_line(
    arguments: Sequence[str], recipes: Mapping[str, Callable[[], PretrainConfig]]
) -> Request:
    """Reads `[RECIPE] [--field value ...]`.

    Args:
      arguments: the words after the program's name.
      recipes: functions by name; the first is the default. "bert-" before a name may be given.

    Raises:
      UserError: unknown recipe, or values that are out of range or do not fit together.
    """
    name, rest = next(iter(recipes)), list(arguments)
    if rest and not rest[0].startswith("-"):
        name = rest.pop(0).removeprefix("bert-")
    for before, word in itertools.pairwise(rest):
        if word.removeprefix("bert-") in recipes and not before.startswith("-"):
            raise UserError(f"the recipe comes first: run_pretrain.py {word} ...")
    if name not in recipes:
        nearest = difflib.get_close_matches(name, recipes, n=1, cutoff=0)[0]
        raise UserError(
            f"unknown recipe {name!r}; did you mean {nearest!r}? There are: {', '.join(recipes)}"
        )
    first_lines = "\n".join(
        f"{recipe}: {(inspect.getdoc(function) or '').splitlines()[0]}"
        for recipe, function in recipes.items()
    )
    recipe = recipes[name]()
    defaults = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}

    def read(**changes: Any) -> _CommandLine:
        return parse(
            _CommandLine,
            rest,
            default=_CommandLine(**defaults | {"work_dir": f"runs/{name}"} | changes),
            program=f"run_pretrain.py {name}",
            description="Pre-trains a BERT: run_pretrain.py [RECIPE] [OPTIONS]. Below, the options "
            f"with the values of the recipe {name}. Recipes:\n{first_lines}",
        )

    given = read()
    if given.init_from:
        # A run that has begun keeps its model, whatever has become of where it came from.
        begun = Path(given.work_dir, "config.json").is_file()
        source = given.work_dir if begun else given.init_from
        given = read(
            init_from=os.path.normpath(given.init_from), model=_model_of(source, recipe.model)
        )
    asked = [name for name in ("dry_run", "learning_rates", "compile_for") if getattr(given, name)]
    if len(asked) > 1:
        options = " and ".join("--" + name.replace("_", "-") for name in asked)
        raise UserError(f"{options} are given together; give one of them")
    config = PretrainConfig(**{name: getattr(given, name) for name in defaults})
    config.validate()
    given.distributed.validate()
    if not config.work_dir:
        raise UserError("work_dir is empty; name the folder of the run: --work-dir DIR")
    if not (config.corpus or given.learning_rates or given.compile_for):
        raise UserError(
            f"recipe {name} needs --corpus DIR; make one with: "
            "python -m data_pipeline.prepare --input FILES --output DIR"
        )
    if name == "adapt" and not config.init_from:
        raise UserError(
            "recipe adapt goes on with a checkpoint; add --init-from DIR, the work folder of a run "
            "or what run_convert.py wrote"
        )
    if config.init_optimizer and not config.init_from:
        raise UserError("init_optimizer needs a checkpoint to take it from; add --init-from DIR")
    return Request(
        name,
        config,
        given.dry_run,
        given.learning_rates,
        given.profile,
        given.compile_for,
        given.distributed,
    )


def _model_of(folder: str, recipe_model: EncoderConfig) -> EncoderConfig:
    """The architecture of a checkpoint, with the compute dtype of the recipe."""
    path = Path(folder, "config.json")
    try:
        model = open_model(json.loads(path.read_text(encoding="utf-8"))["model"])
        return dataclasses.replace(model, dtype=recipe_model.dtype, remat=recipe_model.remat)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} is no work folder and no converted checkpoint ({path}: "
            f"{type(error).__name__}); convert one with: python run_convert.py --help"
        ) from None
