"""Texts in the order of how well they answer: passage re-ranking, response selection."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from bert_jax.tasks.columns import Columns
from bert_jax.tasks.labels import check_labelled
from bert_jax.tasks.probabilities import rounded, softmax
from bert_jax.tasks.ranking.features import MakeInputs, ranking_features
from bert_jax.tasks.ranking.reader import (
    RankingExample,
    read_passages,
    read_responses,
    typed_ranking,
)
from bert_jax.tasks.ranking.scores import ranking_scores
from bert_jax.tasks.task import Encoding, Examples, Outputs, Prediction, Task, with_truth
from data_pipeline.errors import DataError
from data_pipeline.finetune.features import Features, context_inputs, pair_inputs


@dataclasses.dataclass(frozen=True)
class Ranking(Task[RankingExample]):
    """Each candidate is read behind its query, and is relevant or not.

    Two classes rather than one logit (arXiv:1901.04085): as strong, because only the difference of
    the two counts, and label smoothing, R-Drop and class weights mean what they mean elsewhere.
    That difference, the log-odds of being relevant, is the score that orders the candidates.
    """

    best: str = "mrr"

    command: ClassVar[str] = "rank"
    answers: ClassVar[str] = "how well each text answers"
    usage: ClassVar[str] = "QUERY TEXT ..."
    make_inputs: ClassVar[MakeInputs]  # of a query and a candidate

    def typed(self, texts: Sequence[str]) -> list[RankingExample]:
        return [typed_ranking(texts)]

    def labels_of(self, examples: Sequence[RankingExample]) -> tuple[str, ...]:
        check_labelled(examples, "relevant")
        if all(all(example.relevant or ()) for example in examples):
            raise DataError("all training rows are relevant; ranking needs others to compare with")
        return ("irrelevant", "relevant")

    def features(self, examples: Sequence[RankingExample], how: Encoding) -> Features:
        negatives = self._trained_negatives() if how.training else None
        return ranking_features(examples, how, negatives, type(self).make_inputs)

    def _trained_negatives(self) -> int | None:
        """How many irrelevant candidates are trained on for each relevant one; None for all."""
        return None

    def predict(self, outputs: Outputs[RankingExample]) -> list[Prediction]:
        predictions = []
        for example, rows in outputs.by_example():
            relevant = example.relevant or (None,) * len(example.candidates)
            candidates: list[Prediction] = [
                {
                    "index": index,
                    "text": text,
                    "score": rounded(np.float64(logits[1]) - np.float64(logits[0])),
                    "probability": rounded(softmax(logits)[1]),
                    **({} if true is None else {"true": true}),
                }
                for index, ((logits, _), text, true) in enumerate(
                    zip(rows, example.candidates, relevant, strict=True)
                )
            ]
            candidates.sort(key=lambda candidate: -candidate["score"])
            query = "\n".join(example.query)
            predictions.append({"place": example.place, "query": query, "ranking": candidates})
        return predictions

    def score(
        self, predictions: Sequence[Prediction], examples: Sequence[RankingExample]
    ) -> dict[str, float]:
        pairs = with_truth((example.relevant for example in examples), predictions)
        return ranking_scores(
            [
                (true, [each["score"] for each in sorted(found["ranking"], key=_index)])
                for true, found in pairs
            ]
        )

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
    make_inputs: ClassVar[MakeInputs] = pair_inputs

    def read(self, source: str) -> Examples[RankingExample]:
        return read_passages(source, self.columns)


@dataclasses.dataclass(frozen=True)
class ResponseSelection(Ranking):
    """The next turn of a dialogue among turns of other dialogues.

    Attributes:
      others: how many turns of other dialogues stand against the right one in evaluation.
      trained_others: with how many of them the model is trained.
    """

    others: int = 9
    trained_others: int = 1

    make_inputs: ClassVar[MakeInputs] = context_inputs

    def read(self, source: str) -> Examples[RankingExample]:
        return read_responses(source, self.others)

    def _trained_negatives(self) -> int:
        return self.trained_others


def _index(candidate: Prediction) -> int:
    return int(candidate["index"])


TASKS = (
    PassageRanking("rerank"),
    ResponseSelection("response_selection", train="train.txt", dev="dev.txt"),
)
