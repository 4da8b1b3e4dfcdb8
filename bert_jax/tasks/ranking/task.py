"""Texts ordered by how well they answer: passage re-ranking, response selection."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from bert_jax.tasks.columns import Columns
from bert_jax.tasks.labels import check_labelled
from bert_jax.tasks.predictions import Prediction, Predictions, Scores, known, with_truth
from bert_jax.tasks.probabilities import rounded, softmax
from bert_jax.tasks.ranking.features import MakeInputs, ranking_features
from bert_jax.tasks.ranking.reader import (
    RankingExample,
    read_passages,
    read_responses,
    typed_ranking,
)
from bert_jax.tasks.ranking.scores import ranking_scores
from bert_jax.tasks.task import Encoding, Examples, Outputs, Task
from data_pipeline.errors import DataError
from data_pipeline.finetune.features import Features, context_inputs, pair_inputs


@dataclasses.dataclass(frozen=True)
class Ranking(Task[RankingExample]):
    """Each candidate is read after its query, and is relevant or not.

    Two classes rather than one logit (arXiv:1901.04085): only the difference of the two logits
    matters, so nothing is lost, and label smoothing, R-Drop and class weights mean what they mean
    elsewhere. That difference, the log-odds of being relevant, orders the candidates.

    Attributes:
      trained_others: the number of irrelevant candidates trained on for each relevant one; None for
        all.
    """

    best: str = "mrr"
    trained_others: int | None = None

    command: ClassVar[str] = "rank"
    answers: ClassVar[str] = "how well each text answers"
    usage: ClassVar[str] = "QUERY TEXT ..."
    make_inputs: ClassVar[MakeInputs]  # from a query and a candidate

    def typed(self, texts: Sequence[str]) -> list[RankingExample]:
        return [typed_ranking(texts)]

    def labels_of(self, examples: Sequence[RankingExample]) -> tuple[str, ...]:
        check_labelled(examples, "relevant")
        if all(all(example.relevant or ()) for example in examples):
            raise DataError("all training rows are relevant; ranking needs others to compare with")
        return ("irrelevant", "relevant")

    def features(self, examples: Sequence[RankingExample], how: Encoding) -> Features:
        others = self.trained_others if how.training else None
        return ranking_features(examples, how, others, type(self).make_inputs)

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
                    **known(true=true),
                }
                for index, ((logits, _), text, true) in enumerate(
                    zip(rows, example.candidates, relevant, strict=True)
                )
            ]
            candidates.sort(key=lambda candidate: -candidate["score"])
            query = "\n".join(example.query)
            predictions.append({"place": example.place, "query": query, "ranking": candidates})
        return predictions

    def score(self, predictions: Predictions, examples: Sequence[RankingExample]) -> Scores:
        relevant, found = with_truth((example.relevant for example in examples), predictions)
        scores = []
        for prediction in found:
            by_index = {each["index"]: each["score"] for each in prediction["ranking"]}
            scores.append([by_index[index] for index in range(len(by_index))])
        return ranking_scores(list(zip(relevant, scores, strict=True)))

    def classes_in(self, example: RankingExample) -> list[str]:
        relevant = sum(example.relevant or ())
        others = len(example.relevant or ()) - relevant
        if self.trained_others is not None:
            others = min(others, self.trained_others * relevant)
        return ["irrelevant"] * others + ["relevant"] * relevant


@dataclasses.dataclass(frozen=True)
class PassageRanking(Ranking):
    """Passages of queries, from tables with a row for each pair; `group` is the query's id."""

    columns: Columns = Columns("query", "passage", group="query_id")

    column_options: ClassVar[tuple[str, ...]] = ("first", "second", "label", "header", "group")
    make_inputs: ClassVar[MakeInputs] = pair_inputs

    def read(self, source: str) -> Examples[RankingExample]:
        return read_passages(source, self.columns)


@dataclasses.dataclass(frozen=True)
class ResponseSelection(Ranking):
    """The next turn of a dialogue among turns of other dialogues.

    Attributes:
      others: how many turns of other dialogues there are beside the right one.
    """

    trained_others: int | None = 1
    others: int = 9

    make_inputs: ClassVar[MakeInputs] = context_inputs

    def read(self, source: str) -> Examples[RankingExample]:
        return read_responses(source, self.others)


TASKS = (
    PassageRanking("rerank"),
    ResponseSelection("response_selection", train="train.txt", dev="dev.txt"),
)
