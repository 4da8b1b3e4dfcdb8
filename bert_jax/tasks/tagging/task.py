"""A tag for each word: named entities and other parts of a text."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import ClassVar

import flax.linen as nn
import numpy as np

from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.task_heads import BertForTokenClassification
from bert_jax.objectives.finetuning import Loss
from bert_jax.tasks.classification.task import cross_entropy_loss
from bert_jax.tasks.leaderboard import json_lines
from bert_jax.tasks.scores import entity_scores
from bert_jax.tasks.tagging.features import tagged_features
from bert_jax.tasks.tagging.reader import (
    Entity,
    TaggedText,
    Unit,
    apart,
    entity_types,
    read_tagged_texts,
    tags_at,
    unit_starts,
    words_of,
)
from bert_jax.tasks.tagging.tags import OUTSIDE, spans_of_tags, tags_of_spans
from bert_jax.tasks.task import Examples, Prediction, Task, check_known, with_truth
from data_pipeline.errors import DataError
from data_pipeline.finetune.features import Features
from data_pipeline.tokenization.interface import Tokenizer


@dataclasses.dataclass(frozen=True)
class Tagging(Task[TaggedText]):
    """Entities in texts, as BIO tags of their words.

    Attributes:
      unit: what gets a tag, see `tagged_texts.Unit`; CoNLL columns have a word a line, or a
        character.
      leaderboard: name of the file that CLUE's leaderboard takes, without its ending.
    """

    train: str = "train.txt"
    dev: str = "dev.txt"
    best: str = "f1"
    unit: Unit = "word"
    leaderboard: str = ""

    head: ClassVar[str] = "ForTokenClassification"
    command: ClassVar[str] = "tag"

    def read(self, source: str) -> Examples[TaggedText]:
        rows, note = read_tagged_texts(source, self.unit)
        return Examples(rows, [], note)

    def typed(self, texts: Sequence[str]) -> list[TaggedText]:
        for text in texts:
            if not text.strip():
                raise DataError("one of the texts is empty; type words")
        return [TaggedText("typed", text, words_of(text, self.unit), None) for text in texts]

    def labels_of(self, examples: Sequence[TaggedText]) -> tuple[str, ...]:
        types = entity_types(examples)
        return (OUTSIDE, *(f"{prefix}-{name}" for name in types for prefix in "BI"))

    def check(self, examples: Sequence[TaggedText], labels: tuple[str, ...]) -> None:
        types = sorted({label[2:] for label in labels if label != OUTSIDE})
        for example in examples:
            for entity in example.entities or ():
                check_known(entity.place, entity.type, types, kind="type")

    def model(self, config: EncoderConfig, labels: tuple[str, ...]) -> nn.Module:
        return BertForTokenClassification(config, len(labels))

    @property
    def loss(self) -> Loss:
        return cross_entropy_loss

    def features(
        self,
        examples: Sequence[TaggedText],
        tokenizer: Tokenizer,
        max_length: int,
        labels: tuple[str, ...],
        class_weights: Sequence[float] | None = None,
        *,
        training: bool = False,
    ) -> Features:
        features = tagged_features(examples, tokenizer, max_length, labels, class_weights)
        return features._replace(notes=self._unsaid(features, examples, labels))

    def _unsaid(
        self, features: Features, examples: Sequence[TaggedText], labels: tuple[str, ...]
    ) -> tuple[str, ...]:
        """A line about entities that the right tags do not say: they begin or end within a unit."""
        if not any(example.entities for example in examples):
            return ()
        right = [row.tokens["labels"] for row in features.rows]
        places = []
        predictions = _predictions(right, features, examples, labels)
        for example, found in zip(examples, predictions, strict=True):
            said = {(each["type"], each["start"], each["end"]) for each in found["entities"]}
            places += [each.place for each in apart(example.entities or ()) if each[:3] not in said]
        if not places:
            return ()
        line = f"entities that begin or end within a {self.unit}, so that tags cannot say them: "
        return (line + f"{len(places):,}, such as {places[0]}",)

    def predict(
        self,
        logits: Sequence[np.ndarray],
        features: Features,
        examples: Sequence[TaggedText],
        labels: tuple[str, ...],
    ) -> list[Prediction]:
        tags = [np.argmax(row, axis=-1) for row in logits]
        return list(_predictions(tags, features, examples, labels))

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


def _predictions(
    tags: Sequence[np.ndarray],
    features: Features,
    examples: Sequence[TaggedText],
    labels: tuple[str, ...],
) -> Iterator[Prediction]:
    """What a tag, int [length], for each token of each feature means."""
    found: defaultdict[int, dict[int, str]] = defaultdict(dict)
    for row, feature in zip(tags, features.rows, strict=True):
        starts = feature.tokens["unit_starts"]
        for position in np.flatnonzero(starts):
            found[feature.example][int(starts[position]) - 1] = labels[int(row[position])]
    for number, example in enumerate(examples):
        yield _prediction(example, found[number])


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


TAGGING = (
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
