"""What a planned example is, and the text of a block that examples are planned from."""

import enum
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from data_pipeline.corpus.shards import Split
from data_pipeline.keyed_random import derive_key, random_bits, uniform, uniform_below
from data_pipeline.pretraining.order import block_documents

# One example. Segment A is tokens[shard[0]][offset[0] : offset[0] + length[0]] and segment B the
# same with index 1; without pairs length[1] is 0. The label is that of the pair. The key is unlike
# that of every other example of every epoch: masks are drawn from it. All fields have eight bytes,
# so that an array of examples is also an int64 matrix.
EXAMPLE = np.dtype(
    [
        ("shard", np.int64, 2),
        ("offset", np.int64, 2),
        ("length", np.int64, 2),
        ("label", np.int64),
        ("key", np.uint64),
    ]
)


class Draw(enum.IntEnum):
    """The purposes of random numbers in a block."""

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
    """The random numbers of a block."""

    seed: int
    epoch: int
    block: int

    def key(self, purpose: Draw) -> int:
        return derive_key(self.seed, purpose, self.epoch, self.block)

    def bits(self, purpose: Draw, count: int) -> np.ndarray:
        """uint64 [count]."""
        return random_bits(self.key(purpose), np.arange(count))


class Stretches(NamedTuple):
    """The T stretches of text of B examples, those of each example one after the other.

    Attributes:
      counts: int64 [B], stretches of each example, at least one.
      shard, offset, length: int64 [T], tokens[offset : offset + length] of a shard.
    """

    counts: np.ndarray
    shard: np.ndarray
    offset: np.ndarray
    length: np.ndarray


class BlockText(NamedTuple):
    """The D documents of a block with their S sentences, numbered through the block.

    Attributes:
      documents: int64 [D], their numbers in the split.
      shard: int64 [D].
      first: int64 [D], the first sentence of each document in its shard.
      document_start, document_end: int64 [D], first sentence and sentence after the last.
      document_of: int64 [S].
      starts: int64 [S], token offset of each sentence in its shard.
      lengths: int64 [S], tokens of each sentence.
    """

    documents: np.ndarray
    shard: np.ndarray
    first: np.ndarray
    document_start: np.ndarray
    document_end: np.ndarray
    document_of: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray


def read_block(split: Split, draws: Draws) -> BlockText:
    """Looks up where the sentences of a block lie."""
    documents = block_documents(split, *draws)
    shard, first, last = locate_documents(split, documents)
    document_end = np.cumsum(last - first)
    document_start = document_end - (last - first)
    document_of = np.repeat(np.arange(len(documents)), last - first)
    index = np.arange(len(document_of)) + (first - document_start)[document_of]
    starts, lengths = np.empty_like(index), np.empty_like(index)
    for number, rows in rows_by_shard(shard[document_of]):
        offsets = split.shards[number].sentences
        starts[rows] = offsets[index[rows]]
        lengths[rows] = offsets[index[rows] + 1]
    lengths -= starts
    return BlockText(
        documents, shard, first, document_start, document_end, document_of, starts, lengths
    )


def target_lengths(draws: Draws, count: int, budget: int, short_probability: float) -> np.ndarray:
    """Tokens that the examples of each document aim at: `budget`, or sometimes 2 .. budget."""
    short = uniform(draws.bits(Draw.IS_SHORT, count)) < short_probability
    short_length = 2 + uniform_below(draws.bits(Draw.SHORT_LENGTH, count), budget - 1)
    return np.where(short, short_length, budget)


def locate_documents(
    split: Split, documents: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where documents lie: int64 [n] each of shard, first sentence, sentence after the last."""
    shard = np.searchsorted(split.first_document, documents, side="right") - 1
    size = split.documents_per_unit
    local = (documents - split.first_document[shard]) * size
    first, last = np.empty_like(local), np.empty_like(local)
    for number, rows in rows_by_shard(shard):
        boundaries = split.shards[number].documents
        end = np.minimum(local[rows] + size, len(boundaries) - 1)
        first[rows], last[rows] = boundaries[local[rows]], boundaries[end]
    return shard, first, last


def sort_by_shard(shard: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """An order of int64 [n] `shard` and its runs: shard, first index and index after the last."""
    order = np.argsort(shard, kind="stable")
    in_order = shard[order]
    first = np.flatnonzero(np.diff(in_order, prepend=-1))
    last = np.append(first[1:], len(shard))
    runs = zip(in_order[first].tolist(), first.tolist(), last.tolist(), strict=True)
    return order, list(runs)


def rows_by_shard(shard: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The distinct values of int64 [n] `shard`, each with the indices where it stands."""
    order, runs = sort_by_shard(shard)
    return ((number, order[first:last]) for number, first, last in runs)


def follow_links(following: np.ndarray, first: np.ndarray, document_end: np.ndarray) -> np.ndarray:
    """Sentences that are reached from `first` along `following`, in increasing order.

    Args:
      following: int64 [S], the next chunk's start if a chunk starts here, larger than the index.
      first: int64 [D], first sentence of every document.
      document_end: int64 [S], where the chain of this sentence ends.

    Returns:
      int64 [N].
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
