"""Examples of extractive summarization: articles, and which sentences the summary has."""

import dataclasses
import re
from bisect import bisect
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bert_jax.tasks.columns import Columns, no_labels, text_of
from data_pipeline.finetune.examples import Examples
from data_pipeline.finetune.tables import Row, filled, plain_text, read_rows
from data_pipeline.text.clean import clean_text
from data_pipeline.text.sentences import splitter

_SHORTEST_RUN = 8  # bytes of UTF-8; anything shorter may be in any text


class Sentence(NamedTuple):
    """A sentence of an article: its characters `start` to `end`, exclusive."""

    text: str
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class SummaryExample:
    """An article of at least one sentence.

    Attributes:
      place: where it is, for messages and predictions.
      chosen: which sentences the summary has; None where there is no summary.
      summary: as in the file.
    """

    place: str
    sentences: tuple[Sentence, ...]
    chosen: tuple[bool, ...] | None
    summary: str | None


def read_articles(source: str, columns: Columns, language: str) -> Examples[SummaryExample]:
    """The examples of a table, see `tables.read_rows` and `sentences.splitter`.

    The column `first` has the article, whose lines are paragraphs; `label` the summary, made of
    text from the article. Each is a text or a list of sentences. An empty summary is not known; an
    article whose summary has none of its sentences can only be predicted.
    """
    examples: list[SummaryExample] = []
    unusable = {}
    foreign: list[str] = []  # parts of summaries that are not in their articles
    rows = read_rows(source, columns.header)
    for row in rows:
        text_of(row, columns.first)  # rejects an empty one
        sentences = tuple(split_article(_lines(row, columns.first), language))
        summary = _lines(row, columns.label)
        if not clean_text(summary):
            examples.append(SummaryExample(row.place, sentences, None, None))
            continue
        chosen, missing = chosen_sentences([sentence.text for sentence in sentences], summary)
        if any(chosen):
            foreign += [f"{row.place}, {part[:60]!r}" for part in missing]
        else:
            unusable[len(examples)] = (
                f"{row.place}: its {columns.label} has no sentence of the article"
            )
        known = chosen if any(chosen) else None
        examples.append(SummaryExample(row.place, sentences, known, summary))
    note = ""
    if foreign:
        note = f"parts of summaries that are not in their articles: {len(foreign):,}, such as "
        note += "; ".join(foreign[:3])
    truths = (example.summary for example in examples)
    unlabelled = no_labels(source, rows, columns.label, truths)
    return Examples(examples, [], note, unusable, unlabelled)


def _lines(row: Row, column: str) -> str:
    """The text of a column, or the sentences of a list joined by line breaks."""
    value = row.values.get(column)
    parts = value if isinstance(value, list) else [] if value is None else [value]
    return "\n".join(plain_text(part, row.place, column) for part in parts)


def split_article(text: str, language: str) -> list[Sentence]:
    """The sentences of an article with their positions; a line break ends a sentence."""
    split = splitter(language)
    sentences, end = [], 0
    # The splitter is made for cleaned text; white space other than spaces can crash the process.
    spaced = re.sub(r"[^\S\n]", " ", text)  # one for one, which keeps positions
    for paragraph in spaced.split("\n"):
        for sentence in split(paragraph.strip()):
            start = spaced.index(sentence, end)
            end = start + len(sentence)
            if clean_text(sentence):
                sentences.append(Sentence(text[start:end], start, end))
    return sentences


def chosen_sentences(sentences: Sequence[str], summary: str) -> tuple[tuple[bool, ...], list[str]]:
    """Which sentences a summary is made of.

    The summary may be split in other places than the article, and its sentences may lack spaces
    between them. So it is consumed from its start in the longest runs that occur in the article,
    ignoring white space; a sentence is chosen if such runs cover at least half of it.

    Returns:
      (bool for each sentence, the parts of the summary that are not in the article, without short
      ones such as quotation marks).
    """
    parts = ["".join(sentence.split()) for sentence in sentences]
    article, wanted = "".join(parts), "".join(summary.split())
    covered = np.zeros(len(article), bool)
    missing = [""]
    place = 0
    while place < len(wanted):
        # A bisection: if a run is in the article, so are shorter ones.
        sizes = range(1, len(wanted) - place + 1)
        size = bisect(sizes, False, key=lambda size: wanted[place : place + size] not in article)
        run = wanted[place : place + size]
        if len(run.encode()) >= _SHORTEST_RUN:
            start = article.index(run)
            covered[start : start + size] = True
            place += size
            missing.append("")
        else:
            missing[-1] += wanted[place]
            place += 1
    ends = np.cumsum([len(part) for part in parts])
    chosen = tuple(
        bool(covered[end - len(part) : end].mean() >= 0.5)
        for part, end in zip(parts, ends, strict=True)
    )
    return chosen, [part for part in missing if len(part.encode()) >= _SHORTEST_RUN]


def typed_article(text: str, language: str) -> SummaryExample:
    """The example of an article typed by a user."""
    filled(clean_text(text), "typed", "text")
    return SummaryExample("typed", tuple(split_article(text, language)), None, None)
