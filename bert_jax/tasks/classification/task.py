"""Classes, several labels at a time, or a number for a text or a pair of texts."""

import abc
import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, TypeVar

import numpy as np

from bert_jax.errors import UserError
from bert_jax.tasks.classification.reader import TextExample, read_texts, typed_example
from bert_jax.tasks.classification.scores import (
    classification_scores,
    multi_label_scores,
    regression_scores,
)
from bert_jax.tasks.columns import number_of
from bert_jax.tasks.labels import check_known, check_labelled, classes_of, in_order, shortened
from bert_jax.tasks.predictions import Prediction, Predictions, Scores, known, with_truth
from bert_jax.tasks.probabilities import by_label, rounded, sigmoid, softmax
from bert_jax.tasks.task import Encoding, Examples, Outputs, Task
from data_pipeline import tfds
from data_pipeline.errors import DataError
from data_pipeline.finetune.features import Features, encode_all, labelled, pair_inputs


@dataclasses.dataclass(frozen=True)
class TextTask(Task[TextExample]):
    """What classification, multi-label classification and regression share."""

    several: ClassVar[bool] = False  # an example has any number of labels
    answers: ClassVar[str] = "classes or numbers; for pairs: TEXT SECOND"
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
            raise DataError(f"{self.name} takes a pair of texts, not {len(texts)}; type two")
        return [typed_example(*texts)]

    @abc.abstractmethod
    def target(
        self, example: TextExample, how: Encoding
    ) -> tuple[np.ndarray | np.generic | int, float]:
        """The label of a feature and its weight, 0 where the label is not known."""

    @abc.abstractmethod
    def answer(self, logits: np.ndarray, labels: tuple[str, ...]) -> Prediction:
        """What the logits of an example say."""

    def features(self, examples: Sequence[TextExample], how: Encoding) -> Features:
        """One feature for each example, cut to `how.max_length`."""
        first = encode_all(how.tokenizer, [example.first for example in examples])
        second = encode_all(how.tokenizer, [example.second or "" for example in examples])
        rows, cut = [], 0
        for number, example in enumerate(examples):
            pair = second[number] if example.second is not None else None
            inputs = pair_inputs(how.tokenizer, first[number], pair, how.max_length)
            cut += inputs.cut > 0
            rows.append(labelled(inputs.tokens, *self.target(example, how), number))
        return Features(rows, cut)

    def predict(self, outputs: Outputs[TextExample]) -> list[Prediction]:
        predictions = []
        for row, example in zip(outputs.logits, outputs.examples, strict=True):
            true = example.label if example.labels is None else list(example.labels)
            shown = {"place": example.place, "text": example.first}
            shown |= known(second=example.second, true=true)
            predictions.append(shown | self.answer(row, outputs.labels))
        return predictions


Labelled = TypeVar("Labelled", bound=TextExample)


@dataclasses.dataclass(frozen=True)
class OneClass(Task[Labelled]):
    """What tasks with one of several classes for each example share.

    Attributes:
      labels: the classes in a fixed order; by default those of the training data, sorted.
    """

    labels: tuple[str, ...] = ()

    kind: ClassVar[str] = "label"  # what the task calls a class

    def labels_of(self, examples: Sequence[Labelled]) -> tuple[str, ...]:
        check_labelled(examples)
        found = classes_of(example.label or "" for example in examples)
        return self.labels or found

    def check(self, examples: Sequence[Labelled], labels: tuple[str, ...]) -> None:
        where = f"the task {self.name}" if self.labels else "the training data"
        for example in examples:
            if example.label is not None:
                place = getattr(example, "label_place", example.place)
                check_known(place, example.label, labels, kind=self.kind, where=where)

    def answer(self, logits: np.ndarray, labels: tuple[str, ...]) -> Prediction:
        """The class with the largest logit, and the probabilities of all."""
        probabilities = softmax(logits)
        best = int(np.argmax(logits))
        return {
            "label": labels[best],
            "probability": rounded(probabilities[best]),
            "probabilities": by_label(labels, probabilities),
        }

    def confusion(
        self, predictions: Predictions, examples: Sequence[Labelled]
    ) -> tuple[list[str], list[str]]:
        true, found = with_truth((example.label for example in examples), predictions)
        return true, [prediction["label"] for prediction in found]

    def classes_in(self, example: Labelled) -> tuple[str, ...]:
        return () if example.label is None else (example.label,)


@dataclasses.dataclass(frozen=True)
class Classification(OneClass[TextExample], TextTask):
    """One of several classes.

    Attributes:
      scores: names of the scores, see `scores.classification_scores`.
      positive: the class whose F1 is "f1".
    """

    scores: tuple[str, ...] = ("accuracy",)
    positive: str = "1"

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

    def target(self, example: TextExample, how: Encoding) -> tuple[int, float]:
        return how.target(example.label)

    def score(self, predictions: Predictions, examples: Sequence[TextExample]) -> Scores:
        true, found = self.confusion(predictions, examples)
        return classification_scores(true, found, self.scores, self.positive)


@dataclasses.dataclass(frozen=True)
class MultiLabel(TextTask):
    """Any number of labels at a time, separated by commas or as a JSON array."""

    best: str = "micro_f1"

    criterion: ClassVar[str] = "binary_cross_entropy"
    problem_type: ClassVar[str] = "multi_label_classification"
    several: ClassVar[bool] = True

    def labels_of(self, examples: Sequence[TextExample]) -> tuple[str, ...]:
        check_labelled(examples, "labels")
        found = Counter(label for example in examples for label in set(example.labels or ()))
        if not found:
            raise DataError("no training row has a label; training needs some")
        if set(found.values()) == {len(examples)}:
            raise DataError(
                f"all {len(examples):,} training rows have the same labels, "
                f"{shortened(', '.join(in_order(found)))}; there is nothing to tell apart"
            )
        return in_order(found)

    def check(self, examples: Sequence[TextExample], labels: tuple[str, ...]) -> None:
        for example in examples:
            for label in example.labels or ():
                check_known(example.place, label, labels)

    def target(self, example: TextExample, how: Encoding) -> tuple[np.ndarray, float]:
        if how.class_weights:
            raise UserError(
                f"class_weights is balanced, but in {self.name} an example may have several "
                "classes, so it has no weight of one; leave it out"
            )
        chosen = [label in (example.labels or ()) for label in how.labels]
        return np.array(chosen, np.float32), float(example.labels is not None)

    def answer(self, logits: np.ndarray, labels: tuple[str, ...]) -> Prediction:
        probabilities = sigmoid(logits)
        return {
            "labels": [label for label, p in zip(labels, probabilities, strict=True) if p >= 0.5],
            "probabilities": by_label(labels, probabilities),
        }

    def score(self, predictions: Predictions, examples: Sequence[TextExample]) -> Scores:
        true, found = with_truth((example.labels for example in examples), predictions)
        return multi_label_scores(true, [prediction["labels"] for prediction in found])

    def classes_in(self, example: TextExample) -> tuple[str, ...]:
        return example.labels or ()


@dataclasses.dataclass(frozen=True)
class Regression(TextTask):
    """A number, as in STS-B."""

    best: str = "pearson"

    has_classes: ClassVar[bool] = False
    criterion: ClassVar[str] = "squared_error"
    problem_type: ClassVar[str] = "regression"

    def check(self, examples: Sequence[TextExample], labels: tuple[str, ...]) -> None:
        for example in examples:
            _number(example)

    def labels_of(self, examples: Sequence[TextExample]) -> tuple[str, ...]:
        check_labelled(examples)
        if len({_number(example) for example in examples}) < 2:
            raise DataError(
                f"all {len(examples):,} training rows have the number {examples[0].label}; "
                "there is nothing to learn"
            )
        return ()

    def target(self, example: TextExample, how: Encoding) -> tuple[np.float32, float]:
        number = _number(example)
        return np.float32(0 if number is None else number), float(number is not None)

    def answer(self, logits: np.ndarray, labels: tuple[str, ...]) -> Prediction:
        return {"value": rounded(logits[0])}

    def score(self, predictions: Predictions, examples: Sequence[TextExample]) -> Scores:
        true, found = with_truth(map(_number, examples), predictions)
        return regression_scores(true, [prediction["value"] for prediction in found])

    def submitted(self, prediction: Prediction) -> str:
        return f"{prediction['value']:.3f}"


def _number(example: TextExample) -> float | None:
    """The label as a number; None where it is not known."""
    return None if example.label is None else number_of(example.label, example.place)


TASKS = (Classification("classify"), MultiLabel("multilabel"), Regression("regress"))
