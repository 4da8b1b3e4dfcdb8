"""Questions whose answer is a part of a text: SQuAD 1.1 and 2.0, CMRC2018, DRCD."""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from bert_jax.tasks.predictions import Prediction, Predictions, Scores, with_truth
from bert_jax.tasks.probabilities import rounded, softmax
from bert_jax.tasks.question_answering import scores
from bert_jax.tasks.question_answering.features import ContextWindow, question_features
from bert_jax.tasks.question_answering.reader import QuestionExample, read_questions
from bert_jax.tasks.task import Encoding, Examples, Outputs, Task
from data_pipeline.errors import DataError
from data_pipeline.finetune.features import Features
from data_pipeline.finetune.tables import filled

_SCORES = {
    "squad": scores.squad_scores,
    "squad2": scores.squad2_scores,
    "cmrc2018": scores.cmrc_scores,
}


@dataclasses.dataclass(frozen=True)
class QuestionAnswering(Task[QuestionExample]):
    """The part of a text that answers a question, or with "squad2" perhaps no part.

    Attributes:
      rules: whose scores; "squad2" also allows questions without an answer.
      doc_stride: tokens between the starts of two windows of a long text.
      max_question_tokens: a longer question is cut.
      max_answer_tokens: a longer answer is not considered.
      n_best: how many answers a prediction lists.
    """

    train: str = "train-v1.1.json"
    dev: str = "dev-v1.1.json"
    best: str = "f1"
    rules: Literal["squad", "squad2", "cmrc2018"] = "squad"
    doc_stride: int = 128
    max_question_tokens: int = 64
    max_answer_tokens: int = 30
    n_best: int = 20

    has_classes: ClassVar[bool] = False
    states: ClassVar[str] = "tokens"
    layer: ClassVar[str] = "span"
    classifier_dropout: ClassVar[float] = 0.0
    criterion: ClassVar[str] = "span_cross_entropy"
    head: ClassVar[str] = "ForQuestionAnswering"
    command: ClassVar[str] = "answer"
    answers: ClassVar[str] = "the answer, a stretch of the context"
    usage: ClassVar[str] = "QUESTION CONTEXT"

    @property
    def unanswerable(self) -> bool:
        """Whether there are questions without an answer."""
        return self.rules == "squad2"

    def read(self, source: str) -> Examples[QuestionExample]:
        return read_questions(source)

    def typed(self, texts: Sequence[str]) -> list[QuestionExample]:
        if len(texts) != 2:
            raise DataError(
                f"{self.name} takes a question and the text that answers it, not {len(texts)} "
                "texts; type two"
            )
        filled(texts[0], "typed", "question")
        filled(texts[1], "typed", "context")
        return [QuestionExample("typed", "typed", texts[0], texts[1], None)]

    def check(self, examples: Sequence[QuestionExample], labels: tuple[str, ...]) -> None:
        for example in examples:
            if example.is_impossible and not self.unanswerable:
                raise DataError(
                    f"{example.place} is one without an answer (is_impossible), which the task "
                    f"{self.name} does not support; use the task squad2"
                )

    def outputs(self, labels: tuple[str, ...]) -> int:
        return 2  # where an answer starts, and where it ends

    def features(self, examples: Sequence[QuestionExample], how: Encoding) -> Features:
        return question_features(
            examples,
            how,
            doc_stride=self.doc_stride,
            max_question_tokens=self.max_question_tokens,
            unanswerable=self.unanswerable,
        )

    def predict(self, outputs: Outputs[QuestionExample]) -> list[Prediction]:
        """For each question its best answers, scored by the sums of their two logits.

        "start" and "end" (exclusive) are characters of the context. With "squad2",
        "no_answer_score" is the score of [CLS], the lowest of all windows.
        """
        predictions = []
        for example, parts in outputs.by_example():
            spans: list[_Span] = []
            for logits, feature in parts:
                spans += best_spans(logits, feature.decoding, self.n_best, self.max_answer_tokens)
            found = _different(spans, example.context)[: self.n_best]
            no_answer = min((float(logits[0].sum()) for logits, _ in parts), default=math.inf)
            prediction: Prediction = {"id": example.id, "answer": "", "start": None, "end": None}
            sums = [span.score for span in found] + [no_answer] * self.unanswerable
            probabilities = softmax(np.array(sums)) if found else ()
            nbest = [
                {
                    "answer": example.context[span.start : span.end],
                    "start": span.start,
                    "end": span.end,
                    "score": rounded(span.score),
                    "probability": rounded(probability),
                }
                for span, probability in zip(found, probabilities, strict=False)
            ]
            if nbest:
                prediction |= {name: nbest[0][name] for name in ("answer", "start", "end", "score")}
            if self.unanswerable:
                prediction["no_answer_score"] = rounded(no_answer)
            predictions.append(prediction | {"nbest": nbest})
        return predictions

    def count_judged(self, examples: Sequence[QuestionExample], features: Features) -> int:
        """An answer can be right even where there is no place to learn it from."""
        return sum(self._right(example) is not None for example in examples)

    def _right(self, example: QuestionExample) -> list[str] | None:
        """The right answers; None where a prediction cannot be scored."""
        if example.answers is None or not (example.answers or self.unanswerable):
            return None
        return [answer.text for answer in example.answers]

    def tune(self, predictions: Predictions, examples: Sequence[QuestionExample]) -> dict[str, Any]:
        """With "squad2" the "no_answer_threshold" for `_margin`."""
        pairs = zip(predictions, examples, strict=True)
        truths = (self._right(example) if found["nbest"] else None for found, example in pairs)
        right, answered = with_truth(truths, predictions)
        if not self.unanswerable or not right:
            return {}
        threshold, _ = scores.best_threshold(
            np.array([_margin(prediction) for prediction in answered]),
            scores.squad2_f1([prediction["nbest"][0]["answer"] for prediction in answered], right),
            scores.squad2_f1([""] * len(right), right),
        )
        return {"no_answer_threshold": threshold}

    def decide(self, predictions: Predictions, settings: Mapping[str, Any]) -> list[Prediction]:
        """No answer where its margin is above the threshold, with "squad2" only."""
        if not self.unanswerable:
            return list(predictions)
        threshold = settings.get("no_answer_threshold", 0.0)
        return [
            prediction | {"answer": "", "start": None, "end": None}
            if prediction["nbest"] and _margin(prediction) > threshold
            else prediction
            for prediction in predictions
        ]

    def score(self, predictions: Predictions, examples: Sequence[QuestionExample]) -> Scores:
        right, found = with_truth(map(self._right, examples), predictions)
        return _SCORES[self.rules]([prediction["answer"] for prediction in found], right)

    def submission(self, predictions: Predictions) -> tuple[str, str]:
        """The file for the official scripts: the answer to each id."""
        answers = {prediction["id"]: prediction["answer"] for prediction in predictions}
        text = json.dumps(answers, ensure_ascii=False, indent=0)
        name = "predict" if self.rules == "cmrc2018" else "predictions"  # "predict" is CLUE's name
        return f"{self.name}_{name}.json", text + "\n"


class _Span(NamedTuple):
    score: float
    start: int
    end: int


def best_spans(
    logits: np.ndarray, window: ContextWindow, n_best: int, max_answer_tokens: int
) -> list[_Span]:
    """At most `n_best` spans of a window, those with the highest sums of logits.

    `logits` are float [L, 2]: of a start and of an end at each token.

    Considers every span of at most `max_answer_tokens` that begins with a token which has its
    maximum context here. (The original only looks at the best n starts and ends, among which there
    may be no span.)
    """
    size = len(window.starts)
    if not size:
        return []
    width = min(size, max_answer_tokens)
    held = logits[window.position : window.position + size].astype(np.float64)
    # sums[i, k] belongs to the span of the tokens i to i + k.
    padded = np.append(held[:, 1], np.full(width - 1, -np.inf))
    sums = held[:, :1] + np.lib.stride_tricks.sliding_window_view(padded, width)
    sums[~window.is_maximum] = -np.inf
    flat = sums.ravel()
    count = min(n_best, int(np.isfinite(flat).sum()))
    if not count:
        return []
    chosen = np.argpartition(-flat, count - 1)[:count]
    first, length = np.divmod(chosen, width)
    return [
        _Span(float(flat[index]), int(window.starts[a]), int(window.ends[a + k]))
        for index, a, k in zip(chosen, first, length, strict=True)
    ]


def _different(spans: Sequence[_Span], context: str) -> list[_Span]:
    """The best span of each text, best first."""
    best: dict[str, _Span] = {}
    for span in sorted(spans, key=lambda span: (-span.score, span.start, span.end)):
        best.setdefault(context[span.start : span.end], span)
    return list(best.values())


def _margin(prediction: Prediction) -> float:
    """How much higher "no answer" scores than the best answer, to the prediction's digits."""
    return rounded(prediction["no_answer_score"] - prediction["nbest"][0]["score"])


# 100 tokens, one per Chinese character, hold 99% of CMRC2018's answers.
_Chinese = functools.partial(QuestionAnswering, rules="cmrc2018", max_answer_tokens=100)

TASKS = (
    QuestionAnswering("squad"),
    QuestionAnswering("squad2", train="train-v2.0.json", dev="dev-v2.0.json", rules="squad2"),
    _Chinese("cmrc2018", train="cmrc2018_train.json", dev="cmrc2018_dev.json"),
    _Chinese("drcd", train="DRCD_training.json", dev="DRCD_dev.json"),
)
