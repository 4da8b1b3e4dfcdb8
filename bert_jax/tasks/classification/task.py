"""Classes, several labels at a time, or a number for a text or a pair of texts."""

import abc
import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, Literal, TypeVar

import flax.linen as nn
import jax
import numpy as np
from scipy import special

from bert_jax.errors import UserError
from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.task_heads import BertForSequenceClassification
from bert_jax.objectives.finetuning import Batch, Divergence, Loss
from bert_jax.objectives.losses import (
    Sum,
    binary_cross_entropy,
    binary_divergence,
    cross_entropy,
    squared_error,
)
from bert_jax.tasks.classification.reader import (
    NO_LABEL,
    Columns,
    TextExample,
    label_sets_of,
    labels_of,
    read_texts,
    shortened,
    text_features,
    typed_example,
)
from bert_jax.tasks.leaderboard import submission
from bert_jax.tasks.scores import classification_scores, multi_label_scores, regression_scores
from bert_jax.tasks.task import Examples, Prediction, Task, check_known, with_truth
from data_pipeline import tfds
from data_pipeline.errors import DataError
from data_pipeline.finetune.features import Features
from data_pipeline.tokenization.interface import Tokenizer


@dataclasses.dataclass(frozen=True)
class TextTask(Task[TextExample]):
    """What classification, multi-label classification and regression share.

    Attributes:
      columns: of its tables.
    """

    columns: Columns = Columns()

    several: ClassVar[bool] = False  # an example has any number of labels
    column_options: ClassVar[tuple[str, ...]] = ("first", "second", "label", "header")

    @property
    def usage(self) -> str:
        return "TEXT SECOND" if self.columns.second else "TEXT ..."

    def read(self, source: str) -> Examples[TextExample]:
        if not source.startswith(tfds.PREFIX):
            return read_texts(source, self.columns, self.several)
        columns = self.columns.renamed(self.in_datasets.columns)
        found = read_texts(source, columns, self.several)
        numbers = {name: str(number) for number, name in enumerate(self.in_datasets.labels)}
        rows = [
            dataclasses.replace(row, label=numbers.get(row.label or "", row.label))
            for row in found.rows
        ]
        return found._replace(rows=rows)

    def typed(self, texts: Sequence[str]) -> list[TextExample]:
        if not self.columns.second:
            return [typed_example(text, None) for text in texts]
        if len(texts) != 2:
            raise DataError(
                f"{self.name} is about pairs of texts, and {len(texts)} are given; type two"
            )
        return [typed_example(*texts)]

    @abc.abstractmethod
    def target(self, example: TextExample, labels: tuple[str, ...]) -> np.ndarray | np.generic:
        """The label of a feature; of any value where it is not known."""

    def weight(
        self,
        example: TextExample,
        labels: tuple[str, ...],
        class_weights: Sequence[float] | None,
    ) -> float:
        """The weight of a feature; 0 where the label is not known."""
        del labels, class_weights
        return float(example.label is not None)

    @abc.abstractmethod
    def answer(self, logits: np.ndarray, labels: tuple[str, ...]) -> Prediction:
        """What the logits of an example say."""

    def features(
        self,
        examples: Sequence[TextExample],
        tokenizer: Tokenizer,
        max_length: int,
        labels: tuple[str, ...],
        class_weights: Sequence[float] | None = None,
        *,
        training: bool = False,
    ) -> Features:
        return text_features(
            examples,
            tokenizer,
            max_length,
            lambda example: self.target(example, labels),
            lambda example: self.weight(example, labels, class_weights),
        )

    def predict(
        self,
        logits: Sequence[np.ndarray],
        features: Features,
        examples: Sequence[TextExample],
        labels: tuple[str, ...],
    ) -> list[Prediction]:
        return [
            shown(example) | self.answer(row, labels)
            for row, example in zip(logits, examples, strict=True)
        ]


Labelled = TypeVar("Labelled", bound=TextExample)


@dataclasses.dataclass(frozen=True)
class OneClass(Task[Labelled]):
    """What tasks with one of several classes for each example share.

    Attributes:
      labels: the classes in a fixed order; those of the training data, sorted, by default.
    """

    labels: tuple[str, ...] = ()

    @property
    def loss(self) -> Loss:
        return cross_entropy_loss

    def labels_of(self, examples: Sequence[Labelled]) -> tuple[str, ...]:
        found = labels_of(examples)
        return self.labels or found

    def answer(self, logits: np.ndarray, labels: tuple[str, ...]) -> Prediction:
        """The class with the largest logit, and the probabilities of all."""
        probabilities = softmax(logits)
        best = int(np.argmax(logits))
        return {
            "label": labels[best],
            "probability": round(float(probabilities[best]), 6),
            "probabilities": _rounded(labels, probabilities),
        }

    def confusion(
        self, predictions: Sequence[Prediction], examples: Sequence[Labelled]
    ) -> tuple[list[str], list[str]]:
        pairs = with_truth((example.label for example in examples), predictions)
        return [true for true, _ in pairs], [prediction["label"] for _, prediction in pairs]

    def class_counts(self, examples: Sequence[Labelled], labels: tuple[str, ...]) -> dict[str, int]:
        counts = Counter(example.label for example in examples)
        return {label: counts[label] for label in labels}


@dataclasses.dataclass(frozen=True)
class Classification(OneClass[TextExample], TextTask):
    """One of several classes.

    Attributes:
      scores: names of the scores, see `scores.classification_scores`.
      positive: the class that "f1" is about.
      leaderboard: name and kind of the file that the leaderboard takes.
    """

    scores: tuple[str, ...] = ("accuracy",)
    positive: str = "1"
    leaderboard: tuple[str, Literal["glue", "clue"]] | None = None

    def __post_init__(self) -> None:
        if self.best not in self.scores:
            raise ValueError(f"best is {self.best!r}, which is not among scores: {self.scores}")

    def labels_of(self, examples: Sequence[TextExample]) -> tuple[str, ...]:
        labels = super().labels_of(examples)
        if "f1" in self.scores and self.positive not in labels:
            raise DataError(
                f"the task {self.name} is judged by the F1 of the label {self.positive!r}, which "
                f"no training row has; there are: {shortened(', '.join(labels))}"
            )
        return labels

    def check(self, examples: Sequence[TextExample], labels: tuple[str, ...]) -> None:
        where = f"the task {self.name}" if self.labels else "the training data"
        for example in examples:
            if example.label is not None:
                check_known(example.place, example.label, labels, where=where)

    def model(self, config: EncoderConfig, labels: tuple[str, ...]) -> nn.Module:
        return BertForSequenceClassification(config, len(labels))

    def target(self, example: TextExample, labels: tuple[str, ...]) -> np.ndarray | np.generic:
        return np.int32(labels.index(example.label) if example.label in labels else 0)

    def weight(
        self,
        example: TextExample,
        labels: tuple[str, ...],
        class_weights: Sequence[float] | None,
    ) -> float:
        if example.label not in labels:
            return 0.0
        return class_weights[labels.index(example.label)] if class_weights else 1.0

    def score(
        self, predictions: Sequence[Prediction], examples: Sequence[TextExample]
    ) -> dict[str, float]:
        true, found = self.confusion(predictions, examples)
        return classification_scores(true, found, self.scores, self.positive)

    def submission(self, predictions: Sequence[Prediction]) -> tuple[str, str] | None:
        if self.leaderboard is None:
            return None
        return submission(*self.leaderboard, [prediction["label"] for prediction in predictions])


@dataclasses.dataclass(frozen=True)
class MultiLabel(TextTask):
    """Any number of labels at a time, parted by commas or as a JSON array."""

    best: str = "micro_f1"

    problem_type: ClassVar[str] = "multi_label_classification"
    several: ClassVar[bool] = True

    def labels_of(self, examples: Sequence[TextExample]) -> tuple[str, ...]:
        return label_sets_of(examples)

    def check(self, examples: Sequence[TextExample], labels: tuple[str, ...]) -> None:
        for example in examples:
            for label in example.labels or ():
                check_known(example.place, label, labels)

    def model(self, config: EncoderConfig, labels: tuple[str, ...]) -> nn.Module:
        return BertForSequenceClassification(config, len(labels))

    @property
    def loss(self) -> Loss:
        return _binary_cross_entropy

    @property
    def divergence(self) -> Divergence:
        return binary_divergence

    def target(self, example: TextExample, labels: tuple[str, ...]) -> np.ndarray | np.generic:
        return np.array([label in (example.labels or ()) for label in labels], np.float32)

    def weight(
        self,
        example: TextExample,
        labels: tuple[str, ...],
        class_weights: Sequence[float] | None,
    ) -> float:
        if class_weights:
            raise UserError(
                f"class_weights is balanced, but in {self.name} an example may have several "
                "classes, so it has no weight of one; leave it out"
            )
        return float(example.labels is not None)

    def answer(self, logits: np.ndarray, labels: tuple[str, ...]) -> Prediction:
        probabilities = special.expit(logits.astype(np.float64))
        return {
            "labels": [label for label, p in zip(labels, probabilities, strict=True) if p >= 0.5],
            "probabilities": _rounded(labels, probabilities),
        }

    def score(
        self, predictions: Sequence[Prediction], examples: Sequence[TextExample]
    ) -> dict[str, float]:
        pairs = with_truth((example.labels for example in examples), predictions)
        return multi_label_scores(
            [true for true, _ in pairs], [prediction["labels"] for _, prediction in pairs]
        )

    def class_counts(
        self, examples: Sequence[TextExample], labels: tuple[str, ...]
    ) -> dict[str, int]:
        counts = Counter(label for example in examples for label in example.labels or ())
        return {label: counts[label] for label in labels}


@dataclasses.dataclass(frozen=True)
class Regression(TextTask):
    """A number, as in STS-B.

    Attributes:
      leaderboard: as of `Classification`.
    """

    best: str = "pearson"
    leaderboard: tuple[str, Literal["glue", "clue"]] | None = None

    has_classes: ClassVar[bool] = False
    problem_type: ClassVar[str] = "regression"

    def check(self, examples: Sequence[TextExample], labels: tuple[str, ...]) -> None:
        for example in examples:
            if example.label is not None:
                _number(example)

    def labels_of(self, examples: Sequence[TextExample]) -> tuple[str, ...]:
        found = set()
        for example in examples:
            if example.label is None:
                raise DataError(NO_LABEL.format(example.place))
            found.add(_number(example))
        if len(found) < 2:
            raise DataError(
                f"all {len(examples):,} training rows have the number {examples[0].label}; "
                "there is nothing to learn"
            )
        return ()

    def model(self, config: EncoderConfig, labels: tuple[str, ...]) -> nn.Module:
        return BertForSequenceClassification(config, 1)

    @property
    def loss(self) -> Loss:
        return _squared_error

    def target(self, example: TextExample, labels: tuple[str, ...]) -> np.ndarray | np.generic:
        return np.float32(0 if example.label is None else _number(example))

    def answer(self, logits: np.ndarray, labels: tuple[str, ...]) -> Prediction:
        return {"value": round(float(logits[0]), 6)}

    def score(
        self, predictions: Sequence[Prediction], examples: Sequence[TextExample]
    ) -> dict[str, float]:
        truths = (None if example.label is None else _number(example) for example in examples)
        pairs = with_truth(truths, predictions)
        return regression_scores(
            [true for true, _ in pairs], [prediction["value"] for _, prediction in pairs]
        )

    def submission(self, predictions: Sequence[Prediction]) -> tuple[str, str] | None:
        if self.leaderboard is None:
            return None
        values = [f"{prediction['value']:.3f}" for prediction in predictions]
        return submission(*self.leaderboard, values)


def shown(example: TextExample) -> Prediction:
    """What of an example stands beside its prediction."""
    second = {} if example.second is None else {"second": example.second}
    label = example.label if example.labels is None else list(example.labels)
    true = {} if label is None else {"true": label}
    return {"place": example.place, "text": example.first, **second, **true}


def _number(example: TextExample) -> float:
    try:
        value = float(example.label or "")
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise DataError(f"{example.place}: {example.label!r} is no number")
    return value


def softmax(logits: np.ndarray) -> np.ndarray:
    """float64 [..., C] of logits [..., C]."""
    return special.softmax(logits.astype(np.float64), axis=-1)


def _rounded(labels: Sequence[str], probabilities: np.ndarray) -> dict[str, float]:
    return {label: round(float(p), 6) for label, p in zip(labels, probabilities, strict=True)}


def cross_entropy_loss(logits: jax.Array, batch: Batch, smoothing: float) -> Sum:
    """Weighted cross entropy, see `losses.cross_entropy`.

    Args:
      logits: float [..., C].
      batch: `labels`, int32 [...], and `weights`, float32 [...].
      smoothing: of the labels, from 0 to 1.
    """
    return cross_entropy(logits, batch["labels"], batch["weights"], smoothing)


def _binary_cross_entropy(logits: jax.Array, batch: Batch, smoothing: float) -> Sum:
    return binary_cross_entropy(logits, batch["labels"], batch["weights"], smoothing)


def _squared_error(logits: jax.Array, batch: Batch, smoothing: float) -> Sum:
    return squared_error(logits, batch["labels"], batch["weights"], smoothing)
