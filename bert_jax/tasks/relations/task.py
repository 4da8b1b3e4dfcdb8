"""The relation of two entities in a sentence."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from bert_jax.tasks.classification.task import OneClass
from bert_jax.tasks.predictions import Prediction, Predictions, Scores
from bert_jax.tasks.relations.features import relation_features
from bert_jax.tasks.relations.reader import RelationExample, marked_entities, read_relations
from bert_jax.tasks.relations.scores import NO_RELATION, relation_scores
from bert_jax.tasks.task import Encoding, Examples, Outputs
from data_pipeline.finetune.features import Features


@dataclasses.dataclass(frozen=True)
class Relation(OneClass[RelationExample]):
    """One of several relations, by files in the format of SemEval-2010 task 8."""

    train: str = "train.txt"
    dev: str = "dev.txt"
    best: str = "macro_f1"

    states: ClassVar[str] = "entities"
    head: ClassVar[str] = ""
    command: ClassVar[str] = "relate"
    answers: ClassVar[str] = "the relation of the two"
    kind: ClassVar[str] = "relation"
    usage: ClassVar[str] = '"<e1>One</e1> and <e2>another</e2> ..." ...'

    def read(self, source: str) -> Examples[RelationExample]:
        return read_relations(source)

    def typed(self, texts: Sequence[str]) -> list[RelationExample]:
        marked = [marked_entities(text, "typed") for text in texts]
        return [RelationExample("typed", text, None, None, "", x, "typed") for text, x in marked]

    def features(self, examples: Sequence[RelationExample], how: Encoding) -> Features:
        return relation_features(examples, how)

    def predict(self, outputs: Outputs[RelationExample]) -> list[Prediction]:
        predictions = []
        for row, example in zip(outputs.logits, outputs.examples, strict=True):
            entities = {
                name: {"text": example.first[start:end], "start": start, "end": end}
                for name, (start, end) in zip(("e1", "e2"), example.spans, strict=True)
            }
            predictions.append(
                {"place": example.place, "number": example.number, "text": example.first}
                | entities
                | self.answer(row, outputs.labels)
            )
        return predictions

    def score(self, predictions: Predictions, examples: Sequence[RelationExample]) -> Scores:
        return relation_scores(*self.confusion(predictions, examples))

    def submission(self, predictions: Predictions) -> tuple[str, str]:
        """The file for the official scorer: number, tab, relation."""
        lines = [f"{found['number']}\t{found['label']}\n" for found in predictions]
        return "proposed_answers.txt", "".join(lines)


# Hendrickx et al., SemEval-2010 task 8, table 1.
_SEMEVAL_2010 = (
    "Cause-Effect",
    "Component-Whole",
    "Content-Container",
    "Entity-Destination",
    "Entity-Origin",
    "Instrument-Agency",
    "Member-Collection",
    "Message-Topic",
    "Product-Producer",
)

TASKS = (
    Relation("relate"),
    Relation(
        "semeval2010",
        # It has no dev set, and the test set must not choose the best epoch.
        train="TRAIN_FILE.TXT[:7000]",
        dev="TRAIN_FILE.TXT[7000:]",
        labels=(
            *(f"{name}({pair})" for name in _SEMEVAL_2010 for pair in ("e1,e2", "e2,e1")),
            NO_RELATION,
        ),
    ),
)
