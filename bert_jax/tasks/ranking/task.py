"""Texts in the order of how well they answer: passage re-ranking, response selection."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import numpy as np

from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.task_heads import BertForSequenceClassification
from bert_jax.objectives.finetuning import Loss
from bert_jax.tasks.classification.reader import Columns
from bert_jax.tasks.classification.task import cross_entropy_loss, softmax
from bert_jax.tasks.ranking.reader import (
    RankingExample,
    check_ranked,
    ranking_features,
    read_passages,
    read_responses,
    typed_ranking,
)
from bert_jax.tasks.scores import ranking_scores
from bert_jax.tasks.task import Examples, Prediction, Task
from data_pipeline.finetune.features import Features, Inputs, context_inputs, pair_inputs
from data_pipeline.tokenization.interface import Tokenizer


@dataclasses.dataclass(frozen=True)
class Ranking(Task[RankingExample]):
    """Each candidate is read behind its query, and is relevant or not.

    Two classes rather than one logit (arXiv:1901.04085): as strong, because only the difference of
    the two counts, and label smoothing, R-Drop and class weights mean what they mean elsewhere.
    That difference, the log-odds of being relevant, is the score that orders the candidates.
    """

    best: str = "mrr"

    command: ClassVar[str] = "rank"
    usage: ClassVar[str] = "QUERY TEXT ..."

    @abc.abstractmethod
    def read(self, source: str) -> Examples[RankingExample]: ...

    def typed(self, texts: Sequence[str]) -> list[RankingExample]:
        return [typed_ranking(texts)]

    def labels_of(self, examples: Sequence[RankingExample]) -> tuple[str, ...]:
        check_ranked(examples)
        return ("irrelevant", "relevant")

    def model(self, config: EncoderConfig, labels: tuple[str, ...]) -> nn.Module:
        return BertForSequenceClassification(config, 2)

    @property
    def loss(self) -> Loss:
        return cross_entropy_loss

    def features(
        self,
        examples: Sequence[RankingExample],
        tokenizer: Tokenizer,
        max_length: int,
        labels: tuple[str, ...],
        class_weights: Sequence[float] | None = None,
        *,
        training: bool = False,
    ) -> Features:
        return ranking_features(
            examples,
            tokenizer,
            max_length,
            class_weights or (1.0, 1.0),
            self._trained_negatives() if training else None,
            self._inputs,
        )

    def _trained_negatives(self) -> int | None:
        """How many irrelevant candidates are trained on for each relevant one; None for all."""
        return None

    @abc.abstractmethod
    def _inputs(
        self, tokenizer: Tokenizer, query: np.ndarray, candidate: np.ndarray, max_length: int
    ) -> Inputs:
        """A query and a candidate as one sequence, cut to `max_length` tokens."""

    def predict(
        self,
        logits: Sequence[np.ndarray],
        features: Features,
        examples: Sequence[RankingExample],
        labels: tuple[str, ...],
    ) -> list[Prediction]:
        found: list[list[np.ndarray]] = [[] for _ in examples]
        for row, feature in zip(logits, features.rows, strict=True):
            found[feature.example].append(row.astype(np.float64))
        predictions = []
        for rows, example in zip(found, examples, strict=True):
            relevant = example.relevant or (None,) * len(example.candidates)
            candidates = [
                {
                    "index": index,
                    "text": text,
                    "score": round(float(row[1] - row[0]), 6),
                    "probability": round(float(softmax(row)[1]), 6),
                    **({} if true is None else {"true": true}),
                }
                for index, (row, text, true) in enumerate(
                    zip(rows, example.candidates, relevant, strict=True)
                )
            ]
            candidates.sort(key=lambda candidate: -candidate["score"])  # type: ignore[operator]
            query = "\n".join(example.query)
            predictions.append({"place": example.place, "query": query, "ranking": candidates})
        return predictions

    def score(
        self, predictions: Sequence[Prediction], examples: Sequence[RankingExample]
    ) -> dict[str, float]:
        scores = []
        for prediction in predictions:
            ordered = sorted(prediction["ranking"], key=lambda candidate: candidate["index"])
            scores.append([candidate["score"] for candidate in ordered])
        groups = zip([example.relevant for example in examples], scores, strict=True)
        return ranking_scores([(true, found) for true, found in groups if true is not None])

    def class_counts(
        self, examples: Sequence[RankingExample], labels: tuple[str, ...]
    ) -> dict[str, int]:
        negatives = self._trained_negatives()
        counts = [0, 0]
        for example in examples:
            relevant = sum(example.relevant or ())
            others = len(example.relevant or ()) - relevant
            counts[1] += relevant
            counts[0] += others if negatives is None else min(others, negatives * relevant)
        return dict(zip(labels, counts, strict=True))


@dataclasses.dataclass(frozen=True)
class PassageRanking(Ranking):
    """Passages of queries, from tables with a row for each pair.

    Attributes:
      columns: of its tables; `group` is the id of the query.
    """

    columns: Columns = Columns("query", "passage", group="query_id")

    column_options: ClassVar[tuple[str, ...]] = ("first", "second", "label", "header", "group")

    def read(self, source: str) -> Examples[RankingExample]:
        return read_passages(source, self.columns)

    def _inputs(
        self, tokenizer: Tokenizer, query: np.ndarray, candidate: np.ndarray, max_length: int
    ) -> Inputs:
        return pair_inputs(tokenizer, query, candidate, max_length)


@dataclasses.dataclass(frozen=True)
class ResponseSelection(Ranking):
    """The next turn of a dialogue among turns of other dialogues.

    Attributes:
      others: how many turns of other dialogues stand against the right one in evaluation.
      trained_others: with how many of them the model is trained.
    """

    others: int = 9
    trained_others: int = 1

    def read(self, source: str) -> Examples[RankingExample]:
        return Examples(*read_responses(source, self.others))

    def _trained_negatives(self) -> int:
        return self.trained_others

    def _inputs(
        self, tokenizer: Tokenizer, query: np.ndarray, candidate: np.ndarray, max_length: int
    ) -> Inputs:
        return context_inputs(tokenizer, query, candidate, max_length)


RANKING = (
    PassageRanking("rerank"),
    ResponseSelection("response_selection", train="train.txt", dev="dev.txt"),
)
