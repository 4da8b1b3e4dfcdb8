"""A tag for each word: named entities and other parts of a text."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from bert_jax.tasks.labels import check_known, check_labelled
from bert_jax.tasks.predictions import Prediction, Predictions, Scores, with_truth
from bert_jax.tasks.tagging.features import tagged_features
from bert_jax.tasks.tagging.reader import (
    Entity,
    TaggedText,
    Unit,
    apart,
    read_tagged_texts,
    tags_at,
    unit_starts,
    words_of,
)
from bert_jax.tasks.tagging.scores import entity_scores
from bert_jax.tasks.tagging.tags import OUTSIDE, spans_of_tags, tags_of_spans
from bert_jax.tasks.task import Encoding, Examples, Outputs, Task
from data_pipeline.errors import DataError
from data_pipeline.finetune.features import Features
from data_pipeline.finetune.tables import filled


@dataclasses.dataclass(frozen=True)
class Tagging(Task[TaggedText]):
    """Entities in texts, as BIO tags of their words.

    Attributes:
      unit: what gets a tag, see `reader.Unit`; CoNLL columns have a word or a character per line.
    """

    train: str = "train.txt"
    dev: str = "dev.txt"
    best: str = "f1"
    unit: Unit = "word"

    states: ClassVar[str] = "tokens"
    head: ClassVar[str] = "ForTokenClassification"
    command: ClassVar[str] = "tag"
    answers: ClassVar[str] = "entities"

    def read(self, source: str) -> Examples[TaggedText]:
        return read_tagged_texts(source, self.unit)

    def typed(self, texts: Sequence[str]) -> list[TaggedText]:
        return [
            TaggedText("typed", filled(text, "typed", "text"), words_of(text, self.unit), None)
            for text in texts
        ]

    def labels_of(self, examples: Sequence[TaggedText]) -> tuple[str, ...]:
        check_labelled(examples, "entities", "tag")
        types = {entity.type for example in examples for entity in example.entities or ()}
        if not types:
            raise DataError(
                "all training words have the tag 'O'; tagging needs at least one entity"
            )
        return (OUTSIDE, *(f"{prefix}-{name}" for name in sorted(types) for prefix in "BI"))

    def check(self, examples: Sequence[TaggedText], labels: tuple[str, ...]) -> None:
        types = sorted({label[2:] for label in labels if label != OUTSIDE})
        for example in examples:
            for entity in example.entities or ():
                check_known(entity.place, entity.type, types, kind="type")

    def features(self, examples: Sequence[TaggedText], how: Encoding) -> Features:
        features = tagged_features(examples, how)
        if not any(example.entities for example in examples):
            return features
        right = [row.tokens["labels"] for row in features.rows]
        outputs = Outputs(right, features, examples, how.labels)
        lost = []
        for example, found in zip(examples, _predictions(outputs), strict=True):
            said = _spans(found)
            lost += [each.place for each in apart(example.entities or ()) if each[:3] not in said]
        if not lost:
            return features
        note = f"entities that begin or end within a {self.unit}, so tags cannot express them: "
        return features._replace(notes=(f"{note}{len(lost):,}, such as {lost[0]}",))

    def predict(self, outputs: Outputs[TaggedText]) -> list[Prediction]:
        tags = [np.argmax(row, axis=-1) for row in outputs.logits]
        return _predictions(outputs._replace(logits=tags))

    def score(self, predictions: Predictions, examples: Sequence[TaggedText]) -> Scores:
        true, found = with_truth((example.entities for example in examples), predictions)
        spans = [{entity[:3] for entity in entities} for entities in true]
        return entity_scores(spans, list(map(_spans, found)))

    def classes_in(self, example: TaggedText) -> list[str]:
        """The tags of words, or of characters if there are no words."""
        return tags_at(unit_starts(example), example.entities or ())

    def confusion(
        self, predictions: Predictions, examples: Sequence[TaggedText]
    ) -> tuple[list[str], list[str]]:
        """The types of words, or of characters if there are no words."""
        true, predicted = [], []
        for example, prediction in zip(examples, predictions, strict=True):
            if example.entities is None:
                continue
            starts = unit_starts(example)
            entities = [Entity(*span, "") for span in _spans(prediction)]
            true += [tag[2:] or OUTSIDE for tag in tags_at(starts, example.entities)]
            predicted += [tag[2:] or OUTSIDE for tag in tags_at(starts, entities)]
        return true, predicted

    def submitted(self, prediction: Prediction) -> dict[str, dict[str, list[list[int]]]]:
        """As in CLUENER: the spans by type and text, with inclusive ends."""
        label: dict[str, dict[str, list[list[int]]]] = {}
        for entity in prediction["entities"]:
            mentions = label.setdefault(entity["type"], {})
            mentions.setdefault(entity["text"], []).append([entity["start"], entity["end"] - 1])
        return label


def _spans(prediction: Prediction) -> set[tuple[str, int, int]]:
    return {(entity["type"], entity["start"], entity["end"]) for entity in prediction["entities"]}


def _predictions(tags: Outputs[TaggedText]) -> list[Prediction]:
    """The predictions for tags, int [length] for each feature."""
    predictions = []
    for example, parts in tags.by_example():
        found: dict[int, str] = {}
        for row, feature in parts:
            starts = feature.tokens["unit_starts"]
            for position in np.flatnonzero(starts):
                found[int(starts[position]) - 1] = tags.labels[int(row[position])]
        predictions.append(_prediction(example, found))
    return predictions


def _prediction(example: TaggedText, found: dict[int, str]) -> Prediction:
    """The prediction for `found`, the tags by the first character of their units."""
    starts = sorted(found)
    spans = spans_of_tags([found[start] for start in starts])
    # Pieces only say where they begin: a span ends before the next one and the space between.
    ends = [*starts[1:], len(example.text)]
    if example.words is not None:
        ends = [end for _, end in example.words]
    entities = []
    for name, first, end in spans:
        start = starts[first]
        text = example.text[start : ends[end - 1]]
        if example.words is None:
            text = text.rstrip()
        entities.append({"type": name, "text": text, "start": start, "end": start + len(text)})
    prediction: Prediction = {"place": example.place, "text": example.text}
    if example.words is not None:
        prediction["words"] = [example.text[start:end] for start, end in example.words]
        prediction["tags"] = tags_of_spans(spans, len(starts))
    return prediction | {"entities": entities}


TASKS = (
    Tagging("tag"),
    Tagging("conll2003", train="eng.train", dev="eng.testa"),
    Tagging("msra", unit="character"),
    Tagging(
        "cluener",
        train="train.json",
        dev="dev.json",
        unit="piece",
        leaderboard=("cluener_predict", "clue"),
    ),
)
