"""Pre-training recipes. Each is a function; every field can be overridden on the command line."""

import dataclasses
import difflib
import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any

from bert_jax.errors import UserError
from bert_jax.loop import LoopConfig
from bert_jax.model import BertConfig
from bert_jax.optimizer import OptimizerConfig
from data_pipeline.command_line import parse
from data_pipeline.pretrain import DataConfig

EMBEDDED_CORPUS = "corpora/embedded"


@dataclasses.dataclass(frozen=True)
class Phase:
    """A stretch of training with sequences of one length.

    Attributes:
      steps: optimizer steps.
      sequence_length: tokens of a sequence, [CLS] and [SEP] among them.
      batch_size: sequences per optimizer step, over all devices.
      max_predictions: prediction slots of a sequence.
    """

    steps: int
    sequence_length: int
    batch_size: int
    max_predictions: int


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """Everything that a pre-training run depends on.

    Attributes:
      corpus: folder that `python -m data_pipeline.prepare` wrote.
      work_dir: folder of the run: checkpoints, metrics, plots. The same command continues there.
      seed: of parameters, dropout, order, pairs and masks.
      evaluation_examples: size of the fixed held-out set, rounded up to whole batches; 0 for none.
      model: architecture.
      data: how examples are made.
      optimizer: optimizer and schedule, over all phases.
      phases: trained one after the other with one schedule and one line of checkpoints.
      loop: logging, evaluation, checkpoints.
    """

    phases: tuple[Phase, ...]
    corpus: str = ""
    work_dir: str = ""
    seed: int = 0
    evaluation_examples: int = 1024
    model: BertConfig = BertConfig()
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    loop: LoopConfig = LoopConfig()

    @property
    def total_steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    def validate(self) -> None:
        """Raises UserError where a value is out of range or two do not fit together."""
        self.model.validate()
        self.loop.validate()
        for number, phase in enumerate(self.phases):
            for field in dataclasses.fields(phase):
                value = getattr(phase, field.name)
                if value < 1:
                    raise UserError(f"phases.{number}.{field.name} is {value}; it must be positive")
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
            if phase.max_predictions >= phase.sequence_length:
                raise UserError(
                    f"phases.{number}.max_predictions {phase.max_predictions} does not fit "
                    f"sequence_length {phase.sequence_length}; usual is 15% of it"
                )
        if self.data.pair_objective and self.model.type_vocab_size < 2:
            raise UserError(
                f"model.type_vocab_size is {self.model.type_vocab_size}; sentence pairs need 2"
            )
        if not 0 <= self.seed < 1 << 31:
            raise UserError(f"seed is {self.seed}; it must be within 0 and 2147483647")
        self.optimizer.validate(self.total_steps)
        if self.evaluation_examples < 0:
            raise UserError(
                f"evaluation_examples is {self.evaluation_examples}; it must not be negative"
            )

    def resolved(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def demo() -> PretrainConfig:
    """A small BERT on the documentation of your own Python, within minutes on two CPU cores.

    Command: python run_pretrain.py
    Hardware: 2 CPU cores. Run time and figures: README.md.
    """
    return PretrainConfig(
        corpus=EMBEDDED_CORPUS,
        model=BertConfig(
            vocab_size=8192,
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=512,
            max_position_embeddings=128,
            hidden_act="gelu_tanh",  # cheaper on a CPU
            hidden_dropout_prob=0.0,  # a run this short sees no sentence often enough to overfit
            attention_probs_dropout_prob=0.0,
            initializer_range=0.05,  # 0.02 leaves a layer this narrow almost without effect
        ),
        # Without bias correction a beta_2 of 0.999 triples the rate of the first hundreds of steps,
        # which are much of so short a run: it then stays at the unigram frequencies.
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=100, beta_2=0.98),
        phases=(Phase(steps=1200, sequence_length=64, batch_size=64, max_predictions=10),),
        loop=LoopConfig(log_every=10, evaluate_every=300, save_every=300),
        evaluation_examples=512,
    )


def _small_recipe(layers: int, hidden: int, *, steps: int, learning_rate: float) -> PretrainConfig:
    return PretrainConfig(
        model=_published_model(layers, hidden),
        optimizer=OptimizerConfig(learning_rate=learning_rate, warmup_steps=steps // 100),
        phases=(Phase(steps=steps, sequence_length=128, batch_size=256, max_predictions=20),),
        loop=LoopConfig(log_every=100, evaluate_every=5_000, save_every=2_500),
    )


def _published_model(layers: int, hidden: int) -> BertConfig:
    """Sizes as published: heads of 64 and a feed-forward layer four times as wide (1908.08962)."""
    return BertConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        intermediate_size=4 * hidden,
    )


def tiny() -> PretrainConfig:
    """BERT-tiny: 2 layers, 128 wide, 4.4 million parameters (arXiv:1908.08962).

    Command: python run_pretrain.py tiny --corpus DIR
    Hardware: a CPU is enough. Not yet run to its end by us: docs/results.md has shorter runs.
    """
    return _small_recipe(2, 128, steps=50_000, learning_rate=1e-3)


def mini() -> PretrainConfig:
    """BERT-mini: 4 layers, 256 wide, 11 million parameters (arXiv:1908.08962).

    Command: python run_pretrain.py mini --corpus DIR
    Hardware: one GPU. Not yet run to its end by us.
    """
    return _small_recipe(4, 256, steps=100_000, learning_rate=7e-4)


def small() -> PretrainConfig:
    """BERT-small: 4 layers, 512 wide, 29 million parameters (arXiv:1908.08962).

    Command: python run_pretrain.py small --corpus DIR
    Hardware: one GPU. Not yet run to its end by us.
    """
    return _small_recipe(4, 512, steps=100_000, learning_rate=5e-4)


def medium() -> PretrainConfig:
    """BERT-medium: 8 layers, 512 wide, 41 million parameters (arXiv:1908.08962).

    Command: python run_pretrain.py medium --corpus DIR
    Hardware: one GPU. Not yet run to its end by us.
    """
    return _small_recipe(8, 512, steps=200_000, learning_rate=4e-4)


def _original_recipe(model: BertConfig) -> PretrainConfig:
    """The published schedule: 90% of a million steps at length 128, the rest at 512."""
    return PretrainConfig(
        model=dataclasses.replace(model, dtype="bfloat16"),
        optimizer=OptimizerConfig(learning_rate=1e-4, warmup_steps=10_000),
        phases=(
            Phase(steps=900_000, sequence_length=128, batch_size=256, max_predictions=20),
            Phase(steps=100_000, sequence_length=512, batch_size=256, max_predictions=76),
        ),
        loop=LoopConfig(log_every=100, evaluate_every=10_000, save_every=5_000),
        evaluation_examples=4096,
    )


def base() -> PretrainConfig:
    """BERT-base: 12 layers, 768 wide, 110 million parameters (arXiv:1810.04805).

    Command: python run_pretrain.py base --corpus DIR
    Hardware: a TPU slice or several GPUs. The published model's held-out masked-LM loss is about
    1.4 nats by its authors' remark. Not yet run to its end by us.
    """
    return _original_recipe(_published_model(12, 768))


def large() -> PretrainConfig:
    """BERT-large: 24 layers, 1024 wide, 340 million parameters (arXiv:1810.04805).

    Command: python run_pretrain.py large --corpus DIR
    Hardware: a TPU slice or several GPUs. Not yet run to its end by us.
    """
    return _original_recipe(_published_model(24, 1024))


RECIPES: dict[str, Callable[[], PretrainConfig]] = {
    function.__name__: function for function in (demo, tiny, mini, small, medium, base, large)
}

# These change neither the numbers of a run nor which steps it logs, so a resume may change them.
RESUMABLE_FIELDS = ("loop.save_every", "loop.keep_checkpoints", "corpus", "work_dir")


def from_command_line(arguments: Sequence[str]) -> tuple[str, PretrainConfig]:
    """Reads `[RECIPE] [--field value ...]`.

    Args:
      arguments: the words after the program's name.

    Returns:
      (name of the recipe, its validated configuration with the overrides).

    Raises:
      UserError: unknown recipe, or values that are out of range or do not fit together.
    """
    name, rest = "demo", list(arguments)
    if rest and not rest[0].startswith("-"):
        name = rest.pop(0)
    if name not in RECIPES:
        nearest = difflib.get_close_matches(name, RECIPES, n=1, cutoff=0)[0]
        raise UserError(
            f"unknown recipe {name!r}; did you mean {nearest!r}? There are: {', '.join(RECIPES)}"
        )
    recipes = "\n".join(
        f"{recipe}: {(inspect.getdoc(function) or '').splitlines()[0]}"
        for recipe, function in RECIPES.items()
    )
    config = parse(
        PretrainConfig,
        rest,
        default=dataclasses.replace(RECIPES[name](), work_dir=f"runs/{name}"),
        program=f"run_pretrain.py {name}",
        description="Pre-trains a BERT: run_pretrain.py [RECIPE] [OPTIONS]. Below, the options "
        f"with the values of the recipe {name}. Recipes:\n{recipes}",
    )
    config.validate()
    if not config.work_dir:
        raise UserError("work_dir is empty; name the folder of the run: --work-dir DIR")
    if not config.corpus:
        raise UserError(
            f"recipe {name} needs --corpus DIR; make one with: "
            "python -m data_pipeline.prepare --input FILES --output DIR"
        )
    return name, config


def differences(saved: Any, new: Any, prefix: str = "") -> list[str]:
    """Fields in which two resolved configurations differ, "field: old -> new".

    >>> differences({"seed": 0, "model": {"dtype": "float32"}},
    ...             {"seed": 1, "model": {"dtype": "float32"}})
    ['seed: 0 -> 1']
    """
    if prefix in RESUMABLE_FIELDS:
        return []
    if isinstance(saved, dict) and isinstance(new, dict):
        keys = list(saved) + [key for key in new if key not in saved]
        pairs = [(str(key), saved.get(key), new.get(key)) for key in keys]
    elif isinstance(saved, list) and isinstance(new, list) and len(saved) == len(new):
        pairs = [(str(index), *values) for index, values in enumerate(zip(saved, new, strict=True))]
    else:
        return [] if saved == new else [f"{prefix}: {saved} -> {new}"]
    return [
        difference
        for key, old, value in pairs
        for difference in differences(old, value, f"{prefix}.{key}" if prefix else key)
    ]
