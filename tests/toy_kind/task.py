"""The word that is meant: a kind of task with a layer, a loss and a command of its own."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from bert_jax.objectives.losses import cross_entropy
from bert_jax.tasks.predictions import with_truth
from bert_jax.tasks.task import Task
from tests.toy_kind.features import spot_features
from tests.toy_kind.reader import SpotExample, marked_line, read_marked
from tests.toy_kind.scores import spot_scores


@dataclasses.dataclass(frozen=True)
class Spot(Task[SpotExample]):
    train: str = "train.txt"
    dev: str = "dev.txt"
    best: str = "found"

    has_classes: ClassVar[bool] = False
    states: ClassVar[str] = "tokens"
    layer: ClassVar[str] = "pointer"
    head: ClassVar[str] = ""
    command: ClassVar[str] = "spot"
    answers: ClassVar[str] = "the word that is meant"

    def read(self, source):
        return read_marked(source)

    def typed(self, texts):
        return [marked_line(text, "typed") for text in texts]

    @property
    def loss(self):
        def over_tokens(logits, batch, smoothing):
            scores = jnp.where(batch["attention_mask"] > 0, logits[..., 0], -1e9)
            return cross_entropy(scores, batch["labels"], batch["weights"], smoothing)

        return over_tokens

    def features(self, examples, how):
        return spot_features(examples, how)

    def predict(self, outputs):
        predictions = []
        for example, [(logits, feature)] in outputs.by_example():
            index = int(np.argmax(logits[feature.decoding, 0]))
            predictions.append({"word": example.words[index], "index": index})
        return predictions

    def score(self, predictions, examples):
        true, found = with_truth((example.marked for example in examples), predictions)
        return spot_scores(true, [prediction["index"] for prediction in found])


TASKS = (Spot("spot"),)
