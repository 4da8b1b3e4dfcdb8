"""What fine-tuning and prediction know of a task: everything else is the task's own."""

import abc
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np

from bert_jax.errors import UserError
from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.config import MethodConfig
from bert_jax.objectives.config import RegularizationConfig
from bert_jax.tasks.columns import ColumnOptions, Columns
from data_pipeline import tfds
from data_pipeline.finetune.examples import Example, Examples
from data_pipeline.finetune.features import Feature, Features
from data_pipeline.tokenization.interface import Tokenizer

if TYPE_CHECKING:  # the options of all tasks are read where jax would only take time
    import flax.linen as nn

    from bert_jax.objectives.criteria import Divergence, Loss
    from bert_jax.objectives.finetuning import FinetuningObjective
    from bert_jax.objectives.objective import BatchSize, Shapes

NOT_REGULARIZED = RegularizationConfig()
Prediction = dict[str, Any]
Truth = TypeVar("Truth")


class InDatasets(NamedTuple):
    """How TensorFlow Datasets has the data of a task.

    Attributes:
      columns: (column of the task's files, its own name) where they differ.
      labels: its names of the labels 0, 1 and so on of the task's files; empty where the files have
        the names.
      dev: its split of what the task's files call dev.
    """

    columns: tuple[tuple[str, str], ...] = ()
    labels: tuple[str, ...] = ()
    dev: str = "validation"


class Encoding(NamedTuple):
    """How examples become features.

    Attributes:
      tokenizer: the model's.
      max_length: tokens of a feature.
      labels: the classes.
      class_weights: weight of each class in the loss; None weighs all the same.
      training: leave out what cannot be learned from.
    """

    tokenizer: Tokenizer
    max_length: int
    labels: tuple[str, ...] = ()
    class_weights: Sequence[float] | None = None
    training: bool = False

    def target(self, label: str | None) -> tuple[int, float]:
        """(number, weight in the loss) of a label; the weight of one that is no class is 0."""
        if label not in self.labels:
            return 0, 0.0
        number = self.labels.index(label)
        return number, self.class_weights[number] if self.class_weights else 1.0


class Outputs(NamedTuple, Generic[Example]):
    """What a model says of examples.

    Attributes:
      logits: float32, of each feature without its padding rows; the axis of tokens, if there is
        one, is as long as the batch was.
      features: what the logits are of.
      examples: what the features are of.
      labels: the classes.
    """

    logits: Sequence[np.ndarray]
    features: Features
    examples: Sequence[Example]
    labels: tuple[str, ...] = ()

    def by_example(self) -> Iterator[tuple[Example, list[tuple[np.ndarray, Feature]]]]:
        """Each example with the logits of its features."""
        found: list[list[tuple[np.ndarray, Feature]]] = [[] for _ in self.examples]
        for row, feature in zip(self.logits, self.features.rows, strict=True):
            found[feature.example].append((row, feature))
        return zip(self.examples, found, strict=True)


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC, Generic[Example]):
    """A task, from its files to its scores.

    A kind of task is a subclass, a task an instance of it. What a method does may depend on
    `labels`, the names of the classes, which `labels_of` finds in the training examples and the
    checkpoint keeps.

    Attributes:
      name: on the command line.
      train, dev: names of its files within the folder that --data gives.
      best: the score that tells which checkpoint is best; the higher the better.
      in_datasets: how TensorFlow Datasets has the same data.

    One that reads tables has `columns`, too.
    """

    name: str
    train: str = "train.tsv"
    dev: str = "dev.tsv"
    best: str = "accuracy"
    in_datasets: InDatasets = InDatasets()

    has_classes: ClassVar[bool] = True  # R-Drop and label smoothing need classes
    # Of the model, see `TaskModel`; and its loss, one of `criteria.CRITERIA`.
    states: ClassVar[str] = "pooled"
    layer: ClassVar[str] = "classifier"
    classifier_dropout: ClassVar[float] = 0.1
    criterion: ClassVar[str] = "cross_entropy"
    # What follows the family's name in the class of transformers with the same output layer; empty
    # where there is none.
    head: ClassVar[str] = "ForSequenceClassification"
    problem_type: ClassVar[str] = ""  # its name for the loss, where it is not to guess

    command: ClassVar[str] = "classify"  # of run_predict.py
    answers: ClassVar[str] = ""  # what that command finds, in some words

    column_options: ClassVar[tuple[str, ...]] = ()  # those of `ColumnOptions` that it has a use for

    @property
    def usage(self) -> str:
        """What is typed after the command."""
        return "TEXT ..."

    @abc.abstractmethod
    def read(self, source: str) -> Examples[Example]:
        """The examples of a file, with labels if it has them; all that can be predicted.

        They are dataclasses or named tuples, or have a `repr` of what is in them: by it a continued
        run knows its dev set again.
        """

    @abc.abstractmethod
    def typed(self, texts: Sequence[str]) -> list[Example]:
        """Examples of texts that a person typed, as `usage` says."""

    def labels_of(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits; none for a task without classes."""
        return ()

    def check(self, examples: Sequence[Example], labels: tuple[str, ...]) -> None:
        """Refuses an example whose label is not among those of the training data."""

    def outputs(self, labels: tuple[str, ...]) -> int:
        """How many outputs the model's layer has."""
        return len(labels)

    def model(self, config: EncoderConfig, labels: tuple[str, ...]) -> "nn.Module":
        """The encoder with its output layer: (batch, deterministic) -> logits."""
        from bert_jax.models.task_heads import TaskModel

        return TaskModel(
            config, self.outputs(labels), self.states, self.classifier_dropout, self.layer
        )

    @property
    def loss(self) -> "Loss":
        """The loss of the logits and a batch's "labels" and "weights"."""
        from bert_jax.objectives.criteria import CRITERIA

        return CRITERIA[self.criterion].loss

    @property
    def divergence(self) -> "Divergence":
        """How far apart two outputs are, for R-Drop."""
        from bert_jax.objectives.criteria import CRITERIA

        return CRITERIA[self.criterion].divergence

    @abc.abstractmethod
    def features(self, examples: Sequence[Example], how: Encoding) -> Features:
        """What the model is given; an example without a label has the weight 0."""

    @abc.abstractmethod
    def predict(self, outputs: Outputs[Example]) -> list[Prediction]:
        """What the outputs say of each example, as JSON values."""

    @abc.abstractmethod
    def score(
        self, predictions: Sequence[Prediction], examples: Sequence[Example]
    ) -> dict[str, float]:
        """The official scores, `best` among them; shares are within 0 to 1."""

    def with_columns(self, options: ColumnOptions) -> "Task[Example]":
        """The task on tables some of whose columns have other names, if it reads tables."""
        changes = options.changes()
        if not changes:
            return self
        if not self.column_options:
            raise UserError(f"{self.name} reads no tables; leave out --columns")
        for option in changes:
            if option not in self.column_options:
                known = ", ".join(f"--columns.{name}" for name in self.column_options)
                raise UserError(
                    f"{self.name} has no use for --columns.{option}; leave it out. It takes {known}"
                )
        columns = dataclasses.replace(self._columns(), **changes)
        roles = [role for role in ("first", "second", "label") if role in self.column_options]
        for role, other in itertools.combinations(roles, 2):
            if getattr(columns, role) == getattr(columns, other):
                raise UserError(
                    f"the column {getattr(columns, role)!r} is both {role} and {other}; give each "
                    f"its own: --columns.{role}, --columns.{other}"
                )
        fields: dict[str, Any] = {"columns": columns}
        return dataclasses.replace(self, **fields)

    def _columns(self) -> Columns:
        return getattr(self, "columns", Columns())

    def column_hint(self, column: str) -> str:
        """The options that name a column which a table lacks, as they are typed."""
        roles = [role for role in self.column_options if role != "header"]
        named = [role for role in roles if getattr(self._columns(), role) == column]
        return ", ".join(f"--columns.{role} NAME" for role in named or roles)

    def count_judged(self, examples: Sequence[Example], features: Features) -> int:
        """How many examples `score` can judge a prediction by."""
        return len(
            {row.example for row in features.rows if (row.values | row.tokens)["weights"].any()}
        )

    def baselines(self, examples: Sequence[Example]) -> dict[str, dict[str, float]]:
        """The scores of answers that need no training, by what they are, to judge a model by."""
        return {}

    def tune(
        self, predictions: Sequence[Prediction], examples: Sequence[Example]
    ) -> dict[str, Any]:
        """What is to be set by the dev set, such as a threshold, as JSON values.

        It is kept in summary.json, and given to `decide` for all other files.
        """
        return {}

    def decide(
        self, predictions: Sequence[Prediction], settings: Mapping[str, Any]
    ) -> list[Prediction]:
        """The predictions under what `tune` found; without it (empty) under its default."""
        return list(predictions)

    def class_counts(
        self, examples: Sequence[Example], labels: tuple[str, ...]
    ) -> dict[str, int] | None:
        """How often each class occurs; None for a task without classes."""
        return None

    def confusion(
        self, predictions: Sequence[Prediction], examples: Sequence[Example]
    ) -> tuple[list[str], list[str]] | None:
        """(true classes, predicted classes) for a confusion matrix; None where there is none."""
        return None

    def submission(self, predictions: Sequence[Prediction]) -> tuple[str, str] | None:
        """(name, content) of the file for the task's leaderboard; None where there is none."""
        return None


def with_truth(
    truths: Iterable[Truth | None], predictions: Sequence[Prediction]
) -> list[tuple[Truth, Prediction]]:
    """(truth, prediction) of each example whose truth is known; the others are not scored."""
    pairs = zip(truths, predictions, strict=True)
    return [(truth, prediction) for truth, prediction in pairs if truth is not None]


def objective_of(
    task: "Task[Any]",
    model: EncoderConfig,
    labels: tuple[str, ...],
    features: Features,
    method: MethodConfig,
    regularization: RegularizationConfig = NOT_REGULARIZED,
) -> "FinetuningObjective":
    """What a fine-tuning for a task trains.

    Args:
      task: the task.
      model: the encoder's architecture.
      labels: the classes.
      features: some of the task.
      method, regularization: their settings.
    """
    import jax

    from bert_jax.objectives.finetuning import FinetuningObjective

    row = features.rows[0]

    def batch_shapes(size: "BatchSize") -> "Shapes":
        shapes = {
            name: ((*array.shape[:-1], size.length), array.dtype)
            for name, array in row.tokens.items()
        } | {name: (array.shape, array.dtype) for name, array in row.values.items()}
        return {
            name: jax.ShapeDtypeStruct((size.rows, *shape), dtype)
            for name, (shape, dtype) in shapes.items()
        }

    return FinetuningObjective(
        task.model(model, labels),
        task.loss,
        batch_shapes,
        regularization,
        method,
        task.divergence,
    )


def resolve(task: "Task[Any]", name: str, folder: str, given: str) -> str:
    """The source of a split: the one that is given, or the task's own.

    Args:
      task: whose data it is.
      name: "train" or "dev".
      folder: with the task's files, or a data set's name such as "glue/sst2".
      given: a source; empty for the task's own.
    """
    if given:
        return given
    if not Path(folder).is_dir() and tfds.is_dataset(folder):
        split = name if name == "train" else task.in_datasets.dev
        return f"{tfds.PREFIX}{folder.removeprefix(tfds.PREFIX)}/{split}"
    return str(Path(folder, getattr(task, name)))
