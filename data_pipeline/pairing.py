"""Which stretches of which documents make an example: pairs as in BERT, or single stretches.

The rules are those of `create_instances_from_document` and `truncate_seq_pair` in
create_pretraining_data.py of google-research/bert. There they walk through a document sentence by
sentence; here a block of documents is planned at once: every sentence is asked where a chunk
starting at it would end and where the next one would start, and following these links from the
first sentence of every document gives the chunks.
"""

import enum
from collections.abc import Iterator
from typing import Literal

import numpy as np

from data_pipeline.keyed_random import (
    coin,
    coin_sum,
    derive_key,
    permute,
    random_bits,
    uniform,
    uniform_below,
)
from data_pipeline.order import block_documents
from data_pipeline.shards import Split

Pairs = Literal["next_sentence", "none"]

# One example. Segment A is tokens[shard[0]][offset[0] : offset[0] + length[0]] and segment B the
# same with index 1; without pairs length[1] is 0. The label is 1 where B is a random stretch. The
# key is unlike that of every other example of every epoch: masks are drawn from it. All fields have
# eight bytes, so that an array of examples is also an int64 matrix.
EXAMPLE = np.dtype(
    [
        ("shard", np.int64, 2),
        ("offset", np.int64, 2),
        ("length", np.int64, 2),
        ("label", np.int64),
        ("key", np.uint64),
    ]
)


class _Draw(enum.IntEnum):
    """The purposes of random numbers in a block."""

    IS_SHORT = 16
    SHORT_LENGTH = 17
    A_SENTENCES = 18
    IS_RANDOM = 19
    DOCUMENT = 20
    SENTENCE = 21
    FRONT_A = 22
    FRONT_B = 23
    SHUFFLE = 24
    MASK = 25


def special_tokens(pairs: Pairs) -> int:
    """How many [CLS] and [SEP] an example carries."""
    return 3 if pairs == "next_sentence" else 2


def plan_block(
    split: Split,
    pairs: Pairs,
    *,
    sequence_length: int,
    short_sequence_probability: float,
    seed: int,
    epoch: int,
    block: int,
) -> np.ndarray:
    """All examples of a block, shuffled: a pure function of its arguments.

    Args:
      split: the documents; at least two of them for pairs.
      pairs: "next_sentence" for segments A and B, "none" for A alone.
      sequence_length: tokens of a sequence, special tokens included.
      short_sequence_probability: how often a document's chunks aim at a random shorter length.
      seed, epoch, block: where all randomness comes from.

    Returns:
      `EXAMPLE` [n], n > 0.
    """

    def key(purpose: _Draw) -> int:
        return derive_key(seed, purpose, epoch, block)

    def bits(purpose: _Draw, count: int) -> np.ndarray:
        return random_bits(key(purpose), np.arange(count))

    # D documents with S sentences in all, numbered through the block.
    documents = block_documents(split, seed, epoch, block)
    count = len(documents)
    shard, first, last = locate_documents(split, documents)
    sentences = last - first  # [D]
    document_end = np.cumsum(sentences)  # [D]
    document_start = document_end - sentences
    total = int(document_end[-1])
    document_of = np.repeat(np.arange(count), sentences)  # [S]
    starts, lengths = _read_sentences(split, shard, first, document_start, document_of)
    cumulative = np.concatenate([[0], np.cumsum(lengths)])  # [S + 1]

    budget = sequence_length - special_tokens(pairs)
    short = uniform(bits(_Draw.IS_SHORT, count)) < short_sequence_probability
    short_length = 2 + uniform_below(bits(_Draw.SHORT_LENGTH, count), budget - 1)
    target = np.where(short, short_length, budget)  # [D]

    # For every sentence as a chunk's start: where A and the chunk end, where the next one starts.
    index = np.arange(total)
    end = np.searchsorted(cumulative, cumulative[:-1] + target[document_of])
    end = np.minimum(end, document_end[document_of])
    if pairs == "next_sentence":
        # A takes 1 .. size - 1 sentences; a chunk of one sentence has no rest, so B must be random.
        rest = end - index - 1
        is_random = coin(bits(_Draw.IS_RANDOM, total)) | (rest == 0)
        a_sentences = 1 + uniform_below(bits(_Draw.A_SENTENCES, total), rest)
        a_end = index + a_sentences
        following = np.where(is_random, a_end, end)  # unused sentences are put back
    else:
        is_random = np.zeros(total, bool)
        a_end = following = end
    chunk = _follow(following, document_start, document_end[document_of])  # [N]

    examples = np.zeros(len(chunk), EXAMPLE)
    own = document_of[chunk]
    a_end, end, is_random = a_end[chunk], end[chunk], is_random[chunk]
    a_length = cumulative[a_end] - cumulative[chunk]
    examples["shard"] = shard[own][:, None]
    examples["offset"][:, 0] = starts[chunk]
    examples["length"][:, 0] = a_length
    examples["offset"][:, 1] = starts[chunk] + a_length
    examples["length"][:, 1] = cumulative[end] - cumulative[a_end]
    examples["label"] = is_random
    rows = np.flatnonzero(is_random)
    if len(rows):
        other = uniform_below(bits(_Draw.DOCUMENT, len(rows)), split.documents - 1)
        other += other >= documents[own[rows]]  # uniform among the documents that are not its own
        examples["shard"][rows, 1], examples["offset"][rows, 1], examples["length"][rows, 1] = (
            _random_stretches(
                split, other, bits(_Draw.SENTENCE, len(rows)), target[own[rows]] - a_length[rows]
            )
        )

    lost = truncate_pair(examples["length"], budget)
    examples["offset"][:, 0] += coin_sum(key(_Draw.FRONT_A), lost[:, 0])
    examples["offset"][:, 1] += coin_sum(key(_Draw.FRONT_B), lost[:, 1])
    examples["length"] -= lost
    examples["key"] = bits(_Draw.MASK, len(examples))
    return examples[permute(np.arange(len(examples)), len(examples), key(_Draw.SHUFFLE))]


def locate_documents(
    split: Split, documents: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where documents lie: int64 [n] each of shard, first sentence, sentence after the last."""
    shard = np.searchsorted(split.first_document, documents, side="right") - 1
    local = documents - split.first_document[shard]
    first, last = np.empty_like(local), np.empty_like(local)
    for number, rows in _rows_by_shard(shard):
        boundaries = split.shards[number].documents
        first[rows], last[rows] = boundaries[local[rows]], boundaries[local[rows] + 1]
    return shard, first, last


def sort_by_shard(shard: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """An order of int64 [n] `shard` and its runs: shard, first index and index after the last."""
    order = np.argsort(shard, kind="stable")
    in_order = shard[order]
    first = np.flatnonzero(np.diff(in_order, prepend=-1))
    last = np.append(first[1:], len(shard))
    runs = zip(in_order[first].tolist(), first.tolist(), last.tolist(), strict=True)
    return order, list(runs)


def _rows_by_shard(shard: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The distinct values of int64 [n] `shard`, each with the indices where it stands."""
    order, runs = sort_by_shard(shard)
    return ((number, order[first:last]) for number, first, last in runs)


def truncate_pair(lengths: np.ndarray, budget: int) -> np.ndarray:
    """How many tokens A and B lose until they fit: int64 [n, 2] for int64 [n, 2] `lengths`.

    `truncate_seq_pair` of the original takes one token at a time from the longer segment, from B on
    ties. So the longer loses their difference first, then both lose in turns, beginning with B.
    """
    excess = np.maximum(lengths.sum(axis=1) - budget, 0)
    difference = lengths[:, 0] - lengths[:, 1]
    alone = np.minimum(excess, np.abs(difference))
    in_turns = excess - alone
    lost_a = np.where(difference > 0, alone, 0) + in_turns // 2
    return np.stack([lost_a, excess - lost_a], axis=1)


def _read_sentences(
    split: Split,
    shard: np.ndarray,
    first: np.ndarray,
    document_start: np.ndarray,
    document_of: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Token offset in its shard and length of every sentence of the block, int64 [S] each."""
    index = np.arange(len(document_of)) + (first - document_start)[document_of]
    starts, lengths = np.empty_like(index), np.empty_like(index)
    for number, rows in _rows_by_shard(shard[document_of]):
        offsets = split.shards[number].sentences
        starts[rows] = offsets[index[rows]]
        lengths[rows] = offsets[index[rows] + 1]
    lengths -= starts
    return starts, lengths


def _follow(following: np.ndarray, first: np.ndarray, document_end: np.ndarray) -> np.ndarray:
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


def _random_stretches(
    split: Split, documents: np.ndarray, bits: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A stretch of whole sentences of each given document, starting at a random one.

    Args:
      documents: int64 [n].
      bits: uint64 [n], chooses the first sentence.
      target: int64 [n], tokens after which the stretch ends; it has at least one sentence and ends
        with the document at the latest.

    Returns:
      Shard, token offset and number of tokens, int64 [n] each.
    """
    shard, first, last = locate_documents(split, documents)
    start = first + uniform_below(bits, last - first)
    offset, length = np.empty_like(start), np.empty_like(start)
    for number, rows in _rows_by_shard(shard):
        offsets = split.shards[number].sentences
        begin = offsets[start[rows]].astype(np.int64)
        wanted = np.minimum(begin + np.maximum(target[rows], 1), offsets[-1])
        # Searching with another dtype than the array's would copy the whole array.
        end = np.searchsorted(offsets, wanted.astype(offsets.dtype))
        offset[rows] = begin
        length[rows] = offsets[np.minimum(end, last[rows])] - begin
    return shard, offset, length
