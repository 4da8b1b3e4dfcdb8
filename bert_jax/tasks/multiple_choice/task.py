"""One of several choices for a context: SWAG, HellaSwag, C3, DREAM."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import numpy as np

from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.task_heads import BertForMultipleChoice, present_choices
from bert_jax.objectives.finetuning import Batch, Loss
from bert_jax.objectives.losses import Sum, cross_entropy
from bert_jax.tasks.classification.task import softmax
from bert_jax.tasks.leaderboard import json_lines
from bert_jax.tasks.multiple_choice.reader import (
    ChoiceExample,
    check_labelled,
    choice_features,
    read_hellaswag,
    read_questions,
    read_swag,
    typed_choice,
)
from bert_jax.tasks.task import Examples, Prediction, Task
from data_pipeline.finetune.features import Features
from data_pipeline.tokenization.interface import Tokenizer


@dataclasses.dataclass(frozen=True)
class MultipleChoice(Task[ChoiceExample]):
    """Each choice is read behind its context and gets one score; a softmax compares them.

    Attributes:
      reader: of its files.
      leaderboard: name of the file that CLUE's leaderboard takes, without its ending.
    """

    reader: Callable[[str], Examples[ChoiceExample]] = read_hellaswag
    leaderboard: str = ""

    head: ClassVar[str] = "ForMultipleChoice"
    command: ClassVar[str] = "choose"
    usage: ClassVar[str] = "CONTEXT CHOICE CHOICE ..."

    def read(self, source: str) -> Examples[ChoiceExample]:
        return self.reader(source)

    def typed(self, texts: Sequence[str]) -> list[ChoiceExample]:
        return [typed_choice(texts)]

    def labels_of(self, examples: Sequence[ChoiceExample]) -> tuple[str, ...]:
        check_labelled(examples)
        return ()

    def model(self, config: EncoderConfig, labels: tuple[str, ...]) -> nn.Module:
        return BertForMultipleChoice(config)

    @property
    def loss(self) -> Loss:
        return _choice_cross_entropy

    def features(
        self,
        examples: Sequence[ChoiceExample],
        tokenizer: Tokenizer,
        max_length: int,
        labels: tuple[str, ...],
        class_weights: Sequence[float] | None = None,
        *,
        training: bool = False,
    ) -> Features:
        return choice_features(examples, tokenizer, max_length)

    def predict(
        self,
        logits: Sequence[np.ndarray],
        features: Features,
        examples: Sequence[ChoiceExample],
        labels: tuple[str, ...],
    ) -> list[Prediction]:
        predictions = []
        for row, example in zip(logits, examples, strict=True):
            probabilities = softmax(row[: len(example.choices)])
            best = int(np.argmax(probabilities))
            true = {} if example.label is None else {"true": example.label}
            predictions.append(
                {
                    "place": example.place,
                    "context": example.context,
                    **({"question": example.question} if example.question else {}),
                    **true,
                    "index": best,
                    "choice": example.choices[best],
                    "choices": [
                        {"text": text, "probability": round(float(p), 6)}
                        for text, p in zip(example.choices, probabilities, strict=True)
                    ],
                }
            )
        return predictions

    def score(
        self, predictions: Sequence[Prediction], examples: Sequence[ChoiceExample]
    ) -> dict[str, float]:
        right = [
            prediction["index"] == example.label
            for prediction, example in zip(predictions, examples, strict=True)
            if example.label is not None
        ]
        return {"accuracy": float(np.mean(right)) if right else 0.0}

    def submission(self, predictions: Sequence[Prediction]) -> tuple[str, str] | None:
        if not self.leaderboard:
            return None
        records = [
            {"id": number, "label": prediction["index"]}
            for number, prediction in enumerate(predictions)
        ]
        return f"{self.leaderboard}.json", json_lines(records)


def _choice_cross_entropy(logits: jax.Array, batch: Batch, smoothing: float) -> Sum:
    return cross_entropy(
        logits, batch["labels"], batch["weights"], smoothing, present_choices(batch)
    )


MULTIPLE_CHOICE = (
    MultipleChoice("swag", train="train.csv", dev="val.csv", reader=read_swag),
    MultipleChoice("hellaswag", train="hellaswag_train.jsonl", dev="hellaswag_val.jsonl"),
    MultipleChoice(
        "c3",
        train="c3-m-train.json",
        dev="c3-m-dev.json",
        reader=read_questions,
        leaderboard="c311_predict",
    ),
    MultipleChoice("dream", train="train.json", dev="dev.json", reader=read_questions),
)
