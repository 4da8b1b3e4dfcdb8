"""Extractive summaries: the sentences of an article that say the most."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from bert_jax.tasks.columns import Columns
from bert_jax.tasks.labels import check_labelled
from bert_jax.tasks.probabilities import rounded, sigmoid
from bert_jax.tasks.summarization.features import summary_features
from bert_jax.tasks.summarization.reader import (
    Sentence,
    SummaryExample,
    read_articles,
    typed_article,
)
from bert_jax.tasks.summarization.scores import rouge_scores
from bert_jax.tasks.task import Encoding, Examples, Outputs, Prediction, Task
from data_pipeline.finetune.features import Features
from data_pipeline.text.sentences import Language


@dataclasses.dataclass(frozen=True)
class Summarization(Task[SummaryExample]):
    """Sentences are scored one by one; the best make the summary, in the order of the article.

    There are as many as the sum of their probabilities says, at least one: the number that the
    model expects, which follows the length of the article as the summaries of the training data do.

    Attributes:
      columns: of its tables: `first` is the article, `label` the summary.
      language: of the articles, for splitting sentences; for "zh" ROUGE counts characters.
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

    def outputs(self, labels: tuple[str, ...]) -> int:
        return 1

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
            true = {} if example.summary is None else {"true": example.summary}
            predictions.append(
                {"place": example.place, "summary": text, "sentences": sentences, **true}
            )
        return predictions

    def score(
        self, predictions: Sequence[Prediction], examples: Sequence[SummaryExample]
    ) -> dict[str, float]:
        return self._rouge([prediction["summary"] for prediction in predictions], examples)

    def baselines(self, examples: Sequence[SummaryExample]) -> dict[str, dict[str, float]]:
        known = [example for example in examples if example.chosen is not None]
        if not known:
            return {}
        leads = [self._join(example.sentences[:3]) for example in known]
        # As many as the summary has, which no model is told.
        same = [self._join(example.sentences[: sum(example.chosen or ())]) for example in known]
        oracles = [
            self._join([s for s, chosen in zip(e.sentences, e.chosen or (), strict=True) if chosen])
            for e in known
        ]
        return {
            "the first 3 sentences": self._rouge(leads, known),
            "the first ones, as many as the summary has": self._rouge(same, known),
            "the summary's own sentences": self._rouge(oracles, known),
        }

    def _rouge(
        self, summaries: Sequence[str], examples: Sequence[SummaryExample]
    ) -> dict[str, float]:
        pairs = [
            (example.summary, summary)
            for summary, example in zip(summaries, examples, strict=True)
            if example.summary is not None and example.chosen is not None
        ]
        return rouge_scores(pairs, characters=self.language == "zh")

    def _join(self, sentences: Sequence[Sentence]) -> str:
        return ("" if self.language == "zh" else " ").join(s.text for s in sentences)


TASKS = (
    Summarization("summarize", train="train.jsonl", dev="dev.jsonl"),
    Summarization("summarize_zh", train="train.jsonl", dev="dev.jsonl", language="zh"),
)
