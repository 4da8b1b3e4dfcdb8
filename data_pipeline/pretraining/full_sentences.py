"""Full sentences across documents, as in RoBERTa.

FULL-SENTENCES of arXiv:1907.11692, section 4.2: consecutive whole sentences of the corpus, as many
as fit, with a [SEP] between two documents. An example is still one stretch of a shard's tokens; the
separators are inserted when its batch is collated. Documents are therefore used in the order of
the corpus, in *runs*: see docs/decisions/full-sentences.md.
"""

import dataclasses

import numpy as np

from data_pipeline.corpus.shards import Split
from data_pipeline.pretraining.blocks import (
    BlockText,
    Draw,
    Draws,
    follow_links,
    ranges,
    read_block,
    rows_by_shard,
    target_lengths,
)
from data_pipeline.pretraining.config import special_tokens
from data_pipeline.pretraining.examples import EXAMPLE

# The last example of a run is half full on average: runs are long enough to make that rare, and
# short enough that a block mixes many places of the corpus.
SENTENCES_PER_RUN = 1 << 9


def runs_of_documents(split: Split) -> Split:
    """The same text with runs of consecutive documents in place of documents.

    A run lies in one shard and has about `SENTENCES_PER_RUN` sentences.
    """
    size = max(1, round(SENTENCES_PER_RUN * split.documents / max(1, split.sentences)))
    runs = -(-np.diff(split.first_document) // size)
    first = np.concatenate([[0], np.cumsum(runs)])
    return dataclasses.replace(
        split, first_document=first, documents=int(first[-1]), documents_per_unit=size
    )


def plan_full_sentences(
    runs: Split, draws: Draws, sequence_length: int, short_probability: float
) -> np.ndarray:
    """All examples of a block of runs, shuffled: a pure function of its arguments.

    An example takes the next sentences of its run as long as they fit, with a [SEP] between two
    documents. A sentence longer than a sequence is cut into pieces, which count as sentences. So
    every token is used once in an epoch.

    The arguments are those of `pairing.plan_block`, with `runs` from `runs_of_documents`. Only a
    single long sentence exceeds a random shorter length. Returns `EXAMPLE` [n], n > 0, with a
    segment A only.
    """
    budget = sequence_length - special_tokens("full_sentences")
    text = read_block(runs, draws)
    starts_document = _document_starts(runs, text)
    text, starts_document = _cut_long_sentences(text, starts_document, budget)
    run_of, total = text.document_of, len(text.document_of)
    target = target_lengths(draws, len(text.documents), budget, short_probability)

    # An example of sentences i .. j - 1 has one [SEP] for each of i + 1 .. j - 1 that starts a
    # document: its length is before_end[j] - before_start[i].
    cumulative = np.concatenate([[0], np.cumsum(text.lengths)])
    separators = np.cumsum(starts_document)
    before_start = cumulative[:-1] + separators
    before_end = cumulative + np.concatenate([[0], separators])
    end = np.searchsorted(before_end, before_start + target[run_of], side="right") - 1
    end = np.clip(end, np.arange(1, total + 1), text.document_end[run_of])
    chunk = follow_links(end, text.document_start, text.document_end[run_of])

    examples = np.zeros(len(chunk), EXAMPLE)
    examples["shard"] = text.shard[run_of[chunk]][:, None]
    examples["offset"] = text.starts[chunk][:, None]
    examples["length"][:, 0] = cumulative[end[chunk]] - cumulative[chunk]
    examples["key"] = draws.bits(Draw.MASK, len(examples))
    return draws.shuffled(examples)


def stretches_of_full_sentences(
    examples: np.ndarray, split: Split
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Full-sentences examples, `EXAMPLE` [B], split into stretches where a document starts.

    Returns the number of stretches of each example, int64 [B], and the shard, token offset and
    number of tokens of each stretch, int64 [T].
    """
    shard, offset, length = (examples[field][:, 0] for field in ("shard", "offset", "length"))
    # Documents first .. last - 1 of its shard start inside an example.
    first, last = np.empty_like(offset), np.empty_like(offset)
    for number, rows in rows_by_shard(shard):
        for token, document in ((offset[rows], first), (offset[rows] + length[rows] - 1, last)):
            sentence = _search(split.shards[number].sentences, token) - 1
            document[rows] = _search(split.shards[number].documents, sentence)
    count = last - first + 1
    row = np.repeat(np.arange(len(examples)), count)  # [T]
    end = np.cumsum(count)
    nth = ranges(np.zeros_like(count), count)
    begin = offset[row]
    for number, rows in rows_by_shard(shard[row]):
        inner = rows[nth[rows] > 0]
        documents = split.shards[number].documents[(first[row] + nth - 1)[inner]]
        begin[inner] = split.shards[number].sentences[documents]
    stop = np.append(begin[1:], 0)
    stop[end - 1] = offset + length
    return count, shard[row], begin, stop - begin


def _search(array: np.ndarray, values: np.ndarray) -> np.ndarray:
    # Searching with another dtype than the array's would copy the whole array.
    return np.searchsorted(array, values.astype(array.dtype), side="right")


def _document_starts(runs: Split, text: BlockText) -> np.ndarray:
    """bool [S], true for the first sentence of each document in the runs of a block."""
    found = np.zeros(len(text.number), bool)
    for shard, rows in rows_by_shard(text.shard[text.document_of]):
        documents, sentence = runs.shards[shard].documents, text.number[rows]
        found[rows] = documents[_search(documents, sentence) - 1] == sentence
    return found


def _cut_long_sentences(
    text: BlockText, starts_document: np.ndarray, budget: int
) -> tuple[BlockText, np.ndarray]:
    """The text with sentences of at most `budget` tokens, and which of them start a document."""
    pieces = -(-text.lengths // budget)
    if (pieces == 1).all():
        return text, starts_document
    bounds = np.concatenate([[0], np.cumsum(pieces)])
    sentence = np.repeat(np.arange(len(pieces)), pieces)
    done = ranges(np.zeros_like(pieces), pieces) * budget  # tokens of the pieces before
    text = text._replace(
        document_start=bounds[text.document_start],
        document_end=bounds[text.document_end],
        document_of=text.document_of[sentence],
        number=text.number[sentence],
        starts=text.starts[sentence] + done,
        lengths=np.minimum(text.lengths[sentence] - done, budget),
    )
    return text, starts_document[sentence] & (done == 0)
