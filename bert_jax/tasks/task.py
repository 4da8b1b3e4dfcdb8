"""What fine-tuning and prediction know about a task; everything else is the task's own."""

import abc
import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple

import numpy as np

from bert_jax.errors import UserError
from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.config import MethodConfig
from bert_jax.objectives.config import RegularizationConfig
from bert_jax.tasks.columns import ColumnOptions, Columns
from bert_jax.tasks.predictions import Prediction, Predictions, Scores
from data_pipeline import tfds
from data_pipeline.files import json_lines
from data_pipeline.finetune.examples import Example, Examples
from data_pipeline.finetune.features import Feature, Features
from data_pipeline.tokenization.interface import Tokenizer

if TYPE_CHECKING:  # reading the options of all tasks must not wait for jax
    import flax.linen as nn

    from bert_jax.objectives.criteria import Divergence, Loss
    from bert_jax.objectives.finetuning import FinetuningObjective
    from bert_jax.objectives.objective import BatchSize, Shapes

NOT_REGULARIZED = RegularizationConfig()


class InDatasets(NamedTuple):
    """How TensorFlow Datasets stores the data of a task.

    Attributes:
      columns: (column of the task's files, its name there) where they differ.
      labels: its names for the labels 0, 1 and so on of the task's files; empty where the files
        have the names.
      dev: the split that corresponds to the task's dev file.
    """

    columns: tuple[tuple[str, str], ...] = ()
    labels: tuple[str, ...] = ()
    dev: str = "validation"


class Encoding(NamedTuple):
    """How examples become features: at most `max_length` tokens each.

    Attributes:
      class_weights: weight of each class in the loss; None weighs all the same.
      training: leave out what cannot be learned from.
    """

    tokenizer: Tokenizer
    max_length: int
    labels: tuple[str, ...] = ()
    class_weights: Sequence[float] | None = None
    training: bool = False

    def target(self, label: str | None) -> tuple[int, float]:
        """(index, weight in the loss) of a label; the weight is 0 if it is not a class."""
        if label not in self.labels:
            return 0, 0.0
        index = self.labels.index(label)
        return index, self.class_weights[index] if self.class_weights else 1.0


class Outputs(NamedTuple, Generic[Example]):
    """The outputs of a model for some examples.

    Attributes:
      logits: float32, of each feature, without its padding rows; the token axis, if there is one,
        is as long as in the batch.
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
    checkpoint stores.

    Attributes:
      name: on the command line.
      train, dev: names of its files in the folder given by --data.
      best: the score that selects the best checkpoint; higher is better.
      in_datasets: how TensorFlow Datasets stores the same data.
      columns: of its tables, if it reads any.
      leaderboard: the file a leaderboard takes: its name without the suffix, and its format.
    """

    name: str
    train: str = "train.tsv"
    dev: str = "dev.tsv"
    best: str = "accuracy"
    in_datasets: InDatasets = InDatasets()
    columns: Columns = Columns()
    leaderboard: tuple[str, Literal["glue", "clue"]] | None = None

    has_classes: ClassVar[bool] = True  # R-Drop and label smoothing need classes
    # The model, see `TaskModel`, and its loss, one of `criteria.CRITERIA`.
    states: ClassVar[str] = "pooled"
    layer: ClassVar[str] = "classifier"
    classifier_dropout: ClassVar[float] = 0.1
    criterion: ClassVar[str] = "cross_entropy"
    # What follows the family's name in the transformers class with the same output layer; empty
    # where there is none.
    head: ClassVar[str] = "ForSequenceClassification"
    problem_type: ClassVar[str] = ""  # transformers' name for the loss, where it cannot be inferred

    command: ClassVar[str] = "classify"  # of run_predict.py
    answers: ClassVar[str] = ""  # what that command finds, in a few words

    column_options: ClassVar[tuple[str, ...]] = ()  # the fields of `ColumnOptions` that it uses

    @property
    def usage(self) -> str:
        """What is typed after the command."""
        return "TEXT ..."

    @abc.abstractmethod
    def read(self, source: str) -> Examples[Example]:
        """All examples of a file that can be predicted, with labels if it has them.

        Their `repr` has to show everything in them, as that of a dataclass or named tuple does: a
        continued run recognizes its dev set by it.
        """

    @abc.abstractmethod
    def typed(self, texts: Sequence[str]) -> list[Example]:
        """Examples of texts typed by a user, as `usage` says."""

    def labels_of(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits; none for a task without classes."""
        return ()

    def check(self, examples: Sequence[Example], labels: tuple[str, ...]) -> None:
        """Rejects an example whose label does not occur in the training data."""

    def outputs(self, labels: tuple[str, ...]) -> int:
        """The number of outputs of the model's layer: the classes, or one."""
        return len(labels) or 1

    def model(self, config: EncoderConfig, labels: tuple[str, ...]) -> "nn.Module":
        """The encoder with its output layer: (batch, deterministic) -> logits."""
        from bert_jax.models.task_heads import TaskModel

        return TaskModel(
            config, self.outputs(labels), self.states, self.classifier_dropout, self.layer
        )

    @property
    def loss(self) -> "Loss":
        """The loss of the logits, given a batch's "labels" and "weights"."""
        from bert_jax.objectives.criteria import CRITERIA

        return CRITERIA[self.criterion].loss

    @property
    def divergence(self) -> "Divergence":
        """The divergence of two outputs, for R-Drop."""
        from bert_jax.objectives.criteria import CRITERIA

        return CRITERIA[self.criterion].divergence

    @abc.abstractmethod
    def features(self, examples: Sequence[Example], how: Encoding) -> Features:
        """The model's inputs; an example without a label has weight 0."""

    @abc.abstractmethod
    def predict(self, outputs: Outputs[Example]) -> list[Prediction]:
        """The prediction for each example, as JSON values."""

    @abc.abstractmethod
    def score(self, predictions: Predictions, examples: Sequence[Example]) -> Scores:
        """The official scores, among them `best`; shares are between 0 and 1."""

    def with_columns(self, options: ColumnOptions) -> "Task[Example]":
        """The task for tables with other column names, if it reads tables."""
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
        columns = dataclasses.replace(self.columns, **changes)
        roles = [role for role in ("first", "second", "label") if role in self.column_options]
        for role, other in itertools.combinations(roles, 2):
            if getattr(columns, role) == getattr(columns, other):
                raise UserError(
                    f"the column {getattr(columns, role)!r} is both {role} and {other}; give each "
                    f"its own: --columns.{role}, --columns.{other}"
                )
        return dataclasses.replace(self, columns=columns)

    def column_hint(self, column: str) -> str:
        """The options that name a column which a table lacks, as they are typed."""
        roles = [role for role in self.column_options if role != "header"]
        named = [role for role in roles if getattr(self.columns, role) == column]
        return ", ".join(f"--columns.{role} NAME" for role in named or roles)

    def count_judged(self, examples: Sequence[Example], features: Features) -> int:
        """How many examples have a truth that `score` can compare a prediction with."""
        return len(
            {row.example for row in features.rows if (row.values | row.tokens)["weights"].any()}
        )

    def baselines(self, examples: Sequence[Example]) -> dict[str, Scores]:
        """The scores of answers that need no training, by their description."""
        return {}

    def tune(self, predictions: Predictions, examples: Sequence[Example]) -> dict[str, Any]:
        """Settings chosen on the dev set, such as a threshold, as JSON values.

        They are kept in summary.json and passed to `decide` for all other files.
        """
        return {}

    def decide(self, predictions: Predictions, settings: Mapping[str, Any]) -> list[Prediction]:
        """The predictions under the settings of `tune`, or the defaults where these are empty."""
        return list(predictions)

    def class_counts(
        self, examples: Sequence[Example], labels: tuple[str, ...]
    ) -> dict[str, int] | None:
        """How often each class occurs; None for a task without classes."""
        counts = Counter(name for example in examples for name in self.classes_in(example))
        return {label: counts[label] for label in labels} if counts else None

    def classes_in(self, example: Example) -> Iterable[str]:
        """The known classes of an example, or of its parts."""
        return ()

    def confusion(
        self, predictions: Predictions, examples: Sequence[Example]
    ) -> tuple[list[str], list[str]] | None:
        """(true classes, predicted classes) for a confusion matrix; None where there is none."""
        return None

    def submission(self, predictions: Predictions) -> tuple[str, str] | None:
        """(name, content) of the file for the task's leaderboard; None where there is none.

        GLUE takes a table with a header, CLUE a JSON object per line. Rows are numbered from 0.
        """
        if self.leaderboard is None:
            return None
        name, kind = self.leaderboard
        answers = enumerate(map(self.submitted, predictions))
        if kind == "clue":
            return f"{name}.json", json_lines({"id": n, "label": answer} for n, answer in answers)
        rows = [f"{number}\t{answer}\n" for number, answer in answers]
        return f"{name}.tsv", "index\tprediction\n" + "".join(rows)

    def submitted(self, prediction: Prediction) -> Any:
        """The answer in a leaderboard's file."""
        return prediction["label"]


def objective_of(
    task: "Task[Any]",
    model: EncoderConfig,
    labels: tuple[str, ...],
    features: Features,
    method: MethodConfig,
    regularization: RegularizationConfig = NOT_REGULARIZED,
) -> "FinetuningObjective":
    """What fine-tuning trains; `features` are any of the task, for the shapes of batches."""
    import jax

    from bert_jax.objectives.finetuning import FinetuningObjective

    row = features.rows[0]

    def batch_shapes(size: "BatchSize") -> "Shapes":
        tokens = {
            name: jax.ShapeDtypeStruct((size.rows, *array.shape[:-1], size.length), array.dtype)
            for name, array in row.tokens.items()
        }
        values = {
            name: jax.ShapeDtypeStruct((size.rows, *array.shape), array.dtype)
            for name, array in row.values.items()
        }
        return tokens | values

    return FinetuningObjective(
        task.model(model, labels), task.loss, batch_shapes, regularization, method, task.divergence
    )


def resolve(task: "Task[Any]", name: str, folder: str, given: str) -> str:
    """The source of the split "train" or "dev": the one given, or the task's own.

    `folder` holds the task's files, or is the name of a data set such as "glue/sst2".
    """
    if given:
        return given
    if not Path(folder).is_dir() and tfds.is_dataset(folder):
        split = name if name == "train" else task.in_datasets.dev
        return f"{tfds.PREFIX}{folder.removeprefix(tfds.PREFIX)}/{split}"
    return str(Path(folder, getattr(task, name)))
