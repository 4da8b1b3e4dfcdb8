"""One of several choices for a context: SWAG, HellaSwag, C3, DREAM."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from bert_jax.tasks.labels import check_labelled
from bert_jax.tasks.multiple_choice.features import choice_features
from bert_jax.tasks.multiple_choice.reader import (
    ChoiceExample,
    read_hellaswag,
    read_questions,
    read_swag,
    typed_choice,
)
from bert_jax.tasks.predictions import Prediction, Predictions, Scores, known, with_truth
from bert_jax.tasks.probabilities import rounded, softmax
from bert_jax.tasks.task import Encoding, Examples, Outputs, Task
from data_pipeline.finetune.features import Features


@dataclasses.dataclass(frozen=True)
class MultipleChoice(Task[ChoiceExample]):
    """Each choice is read after its context and gets one score; a softmax compares them."""

    reader: Callable[[str], Examples[ChoiceExample]] = read_hellaswag  # of its files

    criterion: ClassVar[str] = "choice_cross_entropy"
    head: ClassVar[str] = "ForMultipleChoice"
    command: ClassVar[str] = "choose"
    answers: ClassVar[str] = "the best choice; a question goes at the end of the context"
    usage: ClassVar[str] = "CONTEXT CHOICE CHOICE ..."

    def read(self, source: str) -> Examples[ChoiceExample]:
        return self.reader(source)

    def typed(self, texts: Sequence[str]) -> list[ChoiceExample]:
        return [typed_choice(texts)]

    def labels_of(self, examples: Sequence[ChoiceExample]) -> tuple[str, ...]:
        check_labelled(examples, what="right choice")
        return ()

    def features(self, examples: Sequence[ChoiceExample], how: Encoding) -> Features:
        return choice_features(examples, how)

    def predict(self, outputs: Outputs[ChoiceExample]) -> list[Prediction]:
        predictions = []
        for row, example in zip(outputs.logits, outputs.examples, strict=True):
            probabilities = softmax(row[: len(example.choices)])
            best = int(np.argmax(probabilities))
            predictions.append(
                {
                    "place": example.place,
                    "context": example.context,
                    **known(question=example.question or None, true=example.label),
                    "index": best,
                    "choice": example.choices[best],
                    "choices": [
                        {"text": text, "probability": rounded(p)}
                        for text, p in zip(example.choices, probabilities, strict=True)
                    ],
                }
            )
        return predictions

    def score(self, predictions: Predictions, examples: Sequence[ChoiceExample]) -> Scores:
        true, found = with_truth((example.label for example in examples), predictions)
        right = np.equal(true, [prediction["index"] for prediction in found])
        return {"accuracy": float(np.mean(right)) if true else 0.0}

    def submitted(self, prediction: Prediction) -> int:
        return int(prediction["index"])


TASKS = (
    MultipleChoice("swag", train="train.csv", dev="val.csv", reader=read_swag),
    MultipleChoice("hellaswag", train="hellaswag_train.jsonl", dev="hellaswag_val.jsonl"),
    MultipleChoice(
        "c3",
        train="c3-m-train.json",
        dev="c3-m-dev.json",
        reader=read_questions,
        leaderboard=("c311_predict", "clue"),
    ),
    MultipleChoice("dream", train="train.json", dev="dev.json", reader=read_questions),
)
