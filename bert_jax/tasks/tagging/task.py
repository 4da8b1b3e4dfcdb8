"""A tag for each word: named entities and other parts of a text."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from bert_jax.tasks.labels import check_known, check_labelled
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
from bert_jax.tasks.task import Encoding, Examples, Outputs, Prediction, Task, with_truth
from data_pipeline.errors import DataError
from data_pipeline.files import json_lines
from data_pipeline.finetune.features import Features
from data_pipeline.finetune.tables import filled


@dataclasses.dataclass(frozen=True)
class Tagging(Task[TaggedText]):
    """Entities in texts, as BIO tags of their words.

    Attributes:
      unit: what gets a tag, see `reader.Unit`; CoNLL columns have a word a line, or a
        character.
      leaderboard: name of the file that CLUE's leaderboard takes, without its ending.
    """

    train: str = "train.txt"
    dev: str = "dev.txt"
    best: str = "f1"
    unit: Unit = "word"
    leaderboard: str = ""

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
        right = [row.tokens["labels"] for row in features.rows]
        return features._replace(notes=self._unsaid(Outputs(right, features, examples, how.labels)))

    def _unsaid(self, right: Outputs[TaggedText]) -> tuple[str, ...]:
        """A line about entities that the right tags do not say: they begin or end within a unit."""
        if not any(example.entities for example in right.examples):
            return ()
        places = []
        for example, found in zip(right.examples, _predictions(right), strict=True):
            said = {(each["type"], each["start"], each["end"]) for each in found["entities"]}
            places += [each.place for each in apart(example.entities or ()) if each[:3] not in said]
        if not places:
            return ()
        line = f"entities that begin or end within a {self.unit}, so that tags cannot say them: "
        return (line + f"{len(places):,}, such as {places[0]}",)

    def predict(self, outputs: Outputs[TaggedText]) -> list[Prediction]:
        tags = [np.argmax(row, axis=-1) for row in outputs.logits]
        return _predictions(outputs._replace(logits=tags))

    def score(
        self, predictions: Sequence[Prediction], examples: Sequence[TaggedText]
    ) -> dict[str, float]:
        pairs = with_truth((example.entities for example in examples), predictions)
        return entity_scores(
            [{entity[:3] for entity in entities} for entities, _ in pairs],
            [
                {(entity["type"], entity["start"], entity["end"]) for entity in found["entities"]}
                for _, found in pairs
            ],
        )

    def class_counts(
        self, examples: Sequence[TaggedText], labels: tuple[str, ...]
    ) -> dict[str, int]:
        """How often each tag occurs on words, or on characters where there are no words."""
        counts = Counter(
            tag
            for example in examples
            for tag in tags_at(unit_starts(example), example.entities or ())
        )
        return {label: counts[label] for label in labels}

    def confusion(
        self, predictions: Sequence[Prediction], examples: Sequence[TaggedText]
    ) -> tuple[list[str], list[str]]:
        """The types of words, or of characters where there are no words."""
        true, predicted = [], []
        for example, prediction in zip(examples, predictions, strict=True):
            if example.entities is None:
                continue
            starts = unit_starts(example)
            entities = [
                Entity(entity["type"], entity["start"], entity["end"], "")
                for entity in prediction["entities"]
            ]
            true += [_type(tag) for tag in tags_at(starts, example.entities)]
            predicted += [_type(tag) for tag in tags_at(starts, entities)]
        return true, predicted

    def submission(self, predictions: Sequence[Prediction]) -> tuple[str, str] | None:
        """As of CLUENER: the spans by type and text, with inclusive ends."""
        if not self.leaderboard:
            return None
        records = []
        for number, prediction in enumerate(predictions):
            label: dict[str, dict[str, list[list[int]]]] = {}
            for entity in prediction["entities"]:
                mentions = label.setdefault(entity["type"], {})
                mentions.setdefault(entity["text"], []).append([entity["start"], entity["end"] - 1])
            records.append({"id": number, "label": label})
        return f"{self.leaderboard}.json", json_lines(records)


def _type(tag: str) -> str:
    return tag if tag == OUTSIDE else tag[2:]


def _predictions(tags: Outputs[TaggedText]) -> list[Prediction]:
    """What a tag, int [length], for each token of each feature means."""
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
    """What the tags mean, by the first characters of their units.

    Where a tag cannot follow the one before it, a span begins, as in `conlleval`.
    """
    starts = sorted(found)
    spans = spans_of_tags([found[start] for start in starts])
    # Pieces say where they begin: a span ends where the next one does, less the space between.
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
        leaderboard="cluener_predict",
    ),
)
