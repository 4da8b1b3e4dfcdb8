"""Extractive summaries: the most important sentences of an article."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np

from bert_jax.tasks.columns import Columns
from bert_jax.tasks.labels import check_labelled
from bert_jax.tasks.predictions import Prediction, Predictions, Scores, known
from bert_jax.tasks.probabilities import rounded, sigmoid
from bert_jax.tasks.summarization.features import summary_features
from bert_jax.tasks.summarization.reader import (
    Sentence,
    SummaryExample,
    read_articles,
    typed_article,
)
from bert_jax.tasks.summarization.scores import rouge_scores
from bert_jax.tasks.task import Encoding, Examples, Outputs, Task
from data_pipeline.finetune.features import Features
from data_pipeline.text.sentences import Language


@dataclasses.dataclass(frozen=True)
class Summarization(Task[SummaryExample]):
    """Each sentence gets a score; the best ones are the summary, in the order of the article.

    Their number is the sum of the probabilities, rounded, and at least one: the number that the
    model expects, which grows with the article as in the summaries of the training data.

    Of the columns, `first` is the article and `label` the summary. The language is that of the
    articles, for splitting sentences; for "zh" ROUGE counts characters.
    """

    best: str = "rouge1"
    columns: Columns = Columns("article", label="summary")
    language: Language = "en"

    has_classes: ClassVar[bool] = False
    states: ClassVar[str] = "sentences"
    criterion: ClassVar[str] = "sentence_cross_entropy"
    head: ClassVar[str] = ""
    command: ClassVar[str] = "summarize"
    answers: ClassVar[str] = "the sentences that matter most"
    column_options: ClassVar[tuple[str, ...]] = ("first", "label", "header")

    def read(self, source: str) -> Examples[SummaryExample]:
        return read_articles(source, self.columns, self.language)

    def typed(self, texts: Sequence[str]) -> list[SummaryExample]:
        return [typed_article(text, self.language) for text in texts]

    def labels_of(self, examples: Sequence[SummaryExample]) -> tuple[str, ...]:
        check_labelled(examples, "chosen", "summary")
        return ()

    def features(self, examples: Sequence[SummaryExample], how: Encoding) -> Features:
        return summary_features(examples, how)

    def predict(self, outputs: Outputs[SummaryExample]) -> list[Prediction]:
        predictions = []
        for example, parts in outputs.by_example():
            scored = [row[part.values["sentence_mask"] > 0] for row, part in parts]
            probabilities = sigmoid(np.concatenate(scored))
            number = max(1, round(float(np.sum(probabilities))))
            best = np.sort(np.argsort(-probabilities, kind="stable")[:number])
            sentences = [
                example.sentences[index]._asdict() | {"probability": rounded(probabilities[index])}
                for index in best
            ]
            text = self._join([example.sentences[index] for index in best])
            prediction = {"place": example.place, "summary": text, "sentences": sentences}
            predictions.append(prediction | known(true=example.summary))
        return predictions

    def score(self, predictions: Predictions, examples: Sequence[SummaryExample]) -> Scores:
        return self._rouge([prediction["summary"] for prediction in predictions], examples)

    def baselines(self, examples: Sequence[SummaryExample]) -> dict[str, Scores]:
        if all(example.chosen is None for example in examples):
            return {}
        first, same, chosen = [], [], []
        for example in examples:
            kept = example.chosen or ()
            first.append(self._join(example.sentences[:3]))
            same.append(self._join(example.sentences[: sum(kept)]))  # a number no model knows
            chosen.append(self._join(itertools.compress(example.sentences, kept)))
        return {
            "the first 3 sentences": self._rouge(first, examples),
            "the first ones, as many as the summary has": self._rouge(same, examples),
            "the summary's own sentences": self._rouge(chosen, examples),
        }

    def _rouge(self, summaries: Sequence[str], examples: Sequence[SummaryExample]) -> Scores:
        pairs = [
            (example.summary, summary)
            for summary, example in zip(summaries, examples, strict=True)
            if example.summary is not None and example.chosen is not None
        ]
        return rouge_scores(pairs, characters=self.language == "zh")

    def _join(self, sentences: Iterable[Sentence]) -> str:
        return ("" if self.language == "zh" else " ").join(s.text for s in sentences)


TASKS = (
    Summarization("summarize", train="train.jsonl", dev="dev.jsonl"),
    Summarization("summarize_zh", train="train.jsonl", dev="dev.jsonl", language="zh"),
)
