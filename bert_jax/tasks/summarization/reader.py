"""Examples of extractive summarisation: articles, and which of their sentences the summary has."""

import dataclasses
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bert_jax.tasks.classification.reader import Columns, no_labels, text_of
from data_pipeline.errors import DataError
from data_pipeline.finetune.examples import Examples
from data_pipeline.finetune.features import Feature, Features, encode_all, token_arrays
from data_pipeline.finetune.tables import Row, plain_text, read_rows
from data_pipeline.text.clean import clean_text
from data_pipeline.text.sentences import splitter
from data_pipeline.tokenization.interface import Tokenizer

_SHORTEST_RUN = 8  # bytes of UTF-8; what is shorter may stand in any text


class Sentence(NamedTuple):
    """A sentence of an article: its characters `start` to `end`, exclusive."""

    text: str
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class SummaryExample:
    """An article.

    Attributes:
      place: where it stands, for messages and predictions.
      sentences: of the article, in its order; at least one.
      chosen: which of them the summary has; None where there is no summary.
      summary: as it is given.
    """

    place: str
    sentences: tuple[Sentence, ...]
    chosen: tuple[bool, ...] | None
    summary: str | None


def read_articles(source: str, columns: Columns, language: str) -> Examples[SummaryExample]:
    """The examples of a table.

    An empty summary is one that is not known. An article of whose sentences the summary has none
    can only be predicted.

    Args:
      source: see `tables.read_rows`.
      columns: `first` is the article, whose lines are paragraphs; `label` the summary, which stands
        verbatim in the article. Each is a text or a list of sentences.
      language: see `sentences.splitter`.

    Raises:
      DataError: a column is not there, an article is empty, or something is no text.
    """
    examples: list[SummaryExample] = []
    unusable = {}
    foreign: list[str] = []  # parts of summaries that are not in their articles
    rows = read_rows(source, columns.header)
    for row in rows:
        text_of(row, columns.first)
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
    unlabelled = ""
    if rows and all(example.summary is None for example in examples):
        unlabelled = no_labels(source, rows, columns.label)
    return Examples(examples, [], note, unusable, unlabelled)


def _lines(row: Row, column: str) -> str:
    """The text of a column, or the sentences of a list with line breaks between."""
    value = row.values.get(column)
    parts = value if isinstance(value, list) else [] if value is None else [value]
    return "\n".join(plain_text(part, row.place, column) for part in parts)


def split_article(text: str, language: str) -> list[Sentence]:
    """The sentences of an article with their places in it; a line break ends a sentence."""
    split = splitter(language)
    sentences, end = [], 0
    # The splitter is made for cleaned text. Other white space than spaces can even end the process.
    spaced = re.sub(r"[^\S\n]", " ", text)  # one for one: places stay
    for paragraph in spaced.split("\n"):
        for sentence in split(paragraph.strip()):
            start = spaced.index(sentence, end)
            end = start + len(sentence)
            if clean_text(sentence):
                sentences.append(Sentence(text[start:end], start, end))
    return sentences


def chosen_sentences(sentences: Sequence[str], summary: str) -> tuple[tuple[bool, ...], list[str]]:
    """Which sentences a summary is made of.

    The summary may have been split in other places than the article, and its sentences may follow
    each other without a space. So it is read from its start in the longest runs that stand in the
    article, white space aside; a sentence is chosen if such runs cover at least half of it.

    Args:
      sentences: of the article.
      summary: its text.

    Returns:
      (bool for each sentence, the parts of the summary that are not in the article; quotation marks
      and the like are not named).
    """
    parts = ["".join(sentence.split()) for sentence in sentences]
    article, wanted = "".join(parts), "".join(summary.split())
    covered = np.zeros(len(article), bool)
    missing = [""]
    place = 0
    while place < len(wanted):
        size = _longest_run(article, wanted, place)
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


def _longest_run(article: str, wanted: str, place: int) -> int:
    """The most characters of `wanted` from `place` on that stand in the article."""
    least, most = 0, len(wanted) - place
    while least < most:  # if so many stand there, fewer do
        middle = (least + most + 1) // 2
        if wanted[place : place + middle] in article:
            least = middle
        else:
            most = middle - 1
    return least


def typed_article(text: str, language: str) -> SummaryExample:
    """The example of an article that a person typed.

    Raises:
      DataError: it is empty.
    """
    sentences = tuple(split_article(text, language))
    if not sentences:
        raise DataError("typed: the text is empty")
    return SummaryExample("typed", sentences, None, None)


def check_summaries(examples: Sequence[SummaryExample]) -> None:
    """Raises DataError where an example has no summary to learn from."""
    for example in examples:
        if example.chosen is None:
            raise DataError(f"{example.place}: there is no summary; training needs one in each row")


def summary_features(
    examples: Sequence[SummaryExample], tokenizer: Tokenizer, max_length: int
) -> Features:
    """Sentences as BertSum has them (arXiv:1903.10318): [CLS] before and [SEP] behind each.

    The token types 0 and 1 alternate. What is longer than `max_length` is read in several windows,
    a feature each; every sentence is scored in one of them.

    Each feature has S places for scored sentences, with the values `cls_positions`, int32 [S];
    `sentence_mask`, float32 [S], 1 for a sentence; `labels`, float32 [S], 1 for a chosen one;
    `weights`, the mask where the summary is known.

    Args:
      examples: with or without summaries.
      tokenizer: the model's.
      max_length: tokens; only a single sentence that is longer is cut and counted.
    """
    cls, sep = tokenizer.special_ids["cls"], tokenizer.special_ids["sep"]
    ids = iter(encode_all(tokenizer, [s.text for example in examples for s in example.sentences]))
    found: list[tuple[int, dict[str, np.ndarray], np.ndarray, np.ndarray]] = []
    cut = 0
    for number, example in enumerate(examples):
        whole = [next(ids).tolist() for _ in example.sentences]
        cut += any(len(sentence) > max_length - 2 for sentence in whole)
        pieces = [[cls, *sentence[: max_length - 2], sep] for sentence in whole]
        chosen = np.array(example.chosen or [False] * len(pieces), np.float32)
        for start, first, end in windows([len(piece) for piece in pieces], max_length):
            shown = pieces[start:end]
            types = [place % 2 for place, piece in enumerate(shown) for _ in piece]
            tokens = token_arrays([piece for pieces_ in shown for piece in pieces_], types)
            positions = np.cumsum([0, *(len(piece) for piece in shown)])[first - start : -1]
            found.append((number, tokens, positions, chosen[first:end]))
    width = max((len(positions) for _, _, positions, _ in found), default=0)
    rows = []
    for number, tokens, positions, labels in found:
        fill = (0, width - len(positions))
        mask = np.pad(np.ones(len(positions), np.float32), fill)
        values = {
            "cls_positions": np.pad(positions.astype(np.int32), fill),
            "sentence_mask": mask,
            "labels": np.pad(labels, fill),
            "weights": mask * np.float32(examples[number].chosen is not None),
        }
        rows.append(Feature(tokens, values, number))
    return Features(rows, cut)


def windows(lengths: Sequence[int], max_length: int) -> list[tuple[int, int, int]]:
    """Windows of whole sentences: (first sentence shown, first scored, end).

    The sentences scored follow from window to window. From the second on they fill at most half of
    it, so that what stands before them fills the rest.

    Args:
      lengths: tokens of each sentence, at most `max_length`.
      max_length: tokens of a window.

    >>> windows([4, 4, 4, 4, 4], 12)
    [(0, 0, 3), (1, 3, 4), (2, 4, 5)]
    """
    result = []
    first = 0
    while first < len(lengths):
        room = max_length if first == 0 else max_length // 2
        end, size = first + 1, lengths[first]
        while end < len(lengths) and size + lengths[end] <= room:
            size += lengths[end]
            end += 1
        start = first
        while start and size + lengths[start - 1] <= max_length:
            start -= 1
            size += lengths[start]
        result.append((start, first, end))
        first = end
    return result
