"""Extractive summaries: the sentences of an article that say the most."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import numpy as np
from scipy import special

from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.task_heads import BertForSentenceScoring
from bert_jax.objectives.finetuning import Batch, Loss
from bert_jax.objectives.losses import Sum, binary_cross_entropy
from bert_jax.tasks.classification.reader import Columns
from bert_jax.tasks.scores import rouge_scores
from bert_jax.tasks.summarization.reader import (
    Sentence,
    SummaryExample,
    check_summaries,
    read_articles,
    summary_features,
    typed_article,
)
from bert_jax.tasks.task import Examples, Prediction, Task
from data_pipeline.finetune.features import Features
from data_pipeline.text.sentences import Language
from data_pipeline.tokenization.interface import Tokenizer


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
    head: ClassVar[str] = ""
    command: ClassVar[str] = "summarize"
    column_options: ClassVar[tuple[str, ...]] = ("first", "label", "header")

    def read(self, source: str) -> Examples[SummaryExample]:
        return read_articles(source, self.columns, self.language)

    def typed(self, texts: Sequence[str]) -> list[SummaryExample]:
        return [typed_article(text, self.language) for text in texts]

    def labels_of(self, examples: Sequence[SummaryExample]) -> tuple[str, ...]:
        check_summaries(examples)
        return ()

    def model(self, config: EncoderConfig, labels: tuple[str, ...]) -> nn.Module:
        return BertForSentenceScoring(config)

    @property
    def loss(self) -> Loss:
        return _binary_cross_entropy

    def features(
        self,
        examples: Sequence[SummaryExample],
        tokenizer: Tokenizer,
        max_length: int,
        labels: tuple[str, ...],
        class_weights: Sequence[float] | None = None,
        *,
        training: bool = False,
    ) -> Features:
        return summary_features(examples, tokenizer, max_length)

    def predict(
        self,
        logits: Sequence[np.ndarray],
        features: Features,
        examples: Sequence[SummaryExample],
        labels: tuple[str, ...],
    ) -> list[Prediction]:
        found: list[list[np.ndarray]] = [[] for _ in examples]
        for row, feature in zip(logits, features.rows, strict=True):
            scored = row[feature.values["sentence_mask"] > 0]
            found[feature.example].append(special.expit(scored.astype(np.float64)))
        predictions = []
        for parts, example in zip(found, examples, strict=True):
            probabilities = np.concatenate(parts)
            number = max(1, round(float(np.sum(probabilities))))
            best = np.sort(np.argsort(-probabilities, kind="stable")[:number])
            sentences = [
                {
                    **example.sentences[index]._asdict(),
                    "probability": round(float(probabilities[index]), 6),
                }
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


def _binary_cross_entropy(logits: jax.Array, batch: Batch, smoothing: float) -> Sum:
    labels, weights = batch["labels"], batch["weights"]
    return binary_cross_entropy(logits[..., None], labels[..., None], weights, smoothing)


SUMMARIZATION = (
    Summarization("summarize", train="train.jsonl", dev="dev.jsonl"),
    Summarization("summarize_zh", train="train.jsonl", dev="dev.jsonl", language="zh"),
)
