"""A block of documents to plan examples from: its sentences and its random numbers."""

import enum
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from data_pipeline.corpus.shards import Split
from data_pipeline.keyed_random import derive_key, permute, random_bits, uniform, uniform_below
from data_pipeline.pretraining.order import block_documents


class Draw(enum.IntEnum):
    """What the random numbers of a block are for."""

    IS_SHORT = 16
    SHORT_LENGTH = 17
    A_SENTENCES = 18
    IS_RANDOM = 19  # or swapped
    DOCUMENT = 20
    SENTENCE = 21
    FRONT_A = 22
    FRONT_B = 23
    SHUFFLE = 24
    MASK = 25
    ROWS = 26


class Draws(NamedTuple):
    """Where the random numbers of a block come from."""

    seed: int
    epoch: int
    block: int

    def key(self, purpose: Draw) -> int:
        return derive_key(self.seed, purpose, self.epoch, self.block)

    def bits(self, purpose: Draw, count: int) -> np.ndarray:
        """uint64 [count]."""
        return random_bits(self.key(purpose), np.arange(count))

    def shuffled(self, values: np.ndarray) -> np.ndarray:
        """The rows of `values` in a random order."""
        return values[permute(np.arange(len(values)), len(values), self.key(Draw.SHUFFLE))]


class BlockText(NamedTuple):
    """The D documents of a block and its S sentences, numbered within the block; all int64."""

    documents: np.ndarray  # [D], their numbers in the split
    shard: np.ndarray  # [D]
    document_start: np.ndarray  # [D], the first sentence of each
    document_end: np.ndarray  # [D], the sentence after its last
    document_of: np.ndarray  # [S], the document of each sentence
    number: np.ndarray  # [S], its number in its shard
    starts: np.ndarray  # [S], its token offset in its shard
    lengths: np.ndarray  # [S], its number of tokens


def read_block(split: Split, draws: Draws) -> BlockText:
    """Looks up where the sentences of a block lie."""
    documents = block_documents(split, *draws)
    shard, first, last = locate_documents(split, documents)
    document_end = np.cumsum(last - first)
    document_start = document_end - (last - first)
    document_of = np.repeat(np.arange(len(documents)), last - first)
    number = ranges(first, last - first)
    starts, lengths = np.empty_like(number), np.empty_like(number)
    for shard_number, rows in rows_by_shard(shard[document_of]):
        offsets = split.shards[shard_number].sentences
        starts[rows] = offsets[number[rows]]
        lengths[rows] = offsets[number[rows] + 1]
    lengths -= starts
    return BlockText(
        documents, shard, document_start, document_end, document_of, number, starts, lengths
    )


def target_lengths(draws: Draws, count: int, budget: int, short_probability: float) -> np.ndarray:
    """The length that each document's examples aim at: `budget`, or sometimes 2 .. budget."""
    short = uniform(draws.bits(Draw.IS_SHORT, count)) < short_probability
    short_length = 2 + uniform_below(draws.bits(Draw.SHORT_LENGTH, count), budget - 1)
    return np.where(short, short_length, budget)


def locate_documents(
    split: Split, documents: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shard, first sentence and sentence after the last of some documents, int64 [n] each."""
    shard = np.searchsorted(split.first_document, documents, side="right") - 1
    size = split.documents_per_unit
    local = (documents - split.first_document[shard]) * size
    first, last = np.empty_like(local), np.empty_like(local)
    for number, rows in rows_by_shard(shard):
        boundaries = split.shards[number].documents
        end = np.minimum(local[rows] + size, len(boundaries) - 1)
        first[rows], last[rows] = boundaries[local[rows]], boundaries[end]
    return shard, first, last


def ranges(first: np.ndarray, length: np.ndarray) -> np.ndarray:
    """`length[0]` consecutive numbers from first[0] on, then `length[1]` from first[1], and so on.

    >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    before = np.cumsum(length) - length
    return np.repeat(first - before, length) + np.arange(length.sum())


def sort_by_shard(shard: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """The order that sorts int64 [n] `shard`, and its runs as (shard, first index, end)."""
    order = np.argsort(shard, kind="stable")
    in_order = shard[order]
    first = np.flatnonzero(np.diff(in_order, prepend=-1))
    last = np.append(first[1:], len(shard))
    runs = zip(in_order[first].tolist(), first.tolist(), last.tolist(), strict=True)
    return order, list(runs)


def rows_by_shard(shard: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The distinct values of int64 [n] `shard`, each with the indices at which it occurs."""
    order, runs = sort_by_shard(shard)
    return ((number, order[first:last]) for number, first, last in runs)


def follow_links(following: np.ndarray, first: np.ndarray, document_end: np.ndarray) -> np.ndarray:
    """The sentences at which chunks start, int64 [N], in increasing order.

    Args:
      following: int64 [S], where the next chunk starts if one starts at this sentence.
      first: int64 [D], first sentence of every document, where its first chunk starts.
      document_end: int64 [S], the end of the sentence's document.
    """
    # Pointer doubling: after k rounds all starts up to 2**k - 1 steps away are marked.
    total = len(following)
    jump = np.append(np.where(following < document_end, following, total), total)
    reached = np.zeros(total + 1, bool)
    reached[first] = True
    while jump.min() < total:
        reached[jump[reached]] = True
        jump = jump[jump]
    return np.flatnonzero(reached[:total])
