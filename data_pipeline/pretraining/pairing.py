"""Sentence pairs as in BERT or ALBERT, and single stretches of a document.

The rules are those of `create_instances_from_document` and `truncate_seq_pair` in
create_pretraining_data.py of google-research/bert and google-research/albert. Those walk through a
document sentence by sentence; here a block of documents is planned at once: for every sentence we
compute where a chunk that starts there ends and where the next one starts. Following these links
from the first sentence of every document gives the chunks.
"""

import numpy as np

from data_pipeline.corpus.shards import Split
from data_pipeline.keyed_random import coin, coin_sum, uniform_below
from data_pipeline.pretraining.blocks import (
    Draw,
    Draws,
    follow_links,
    locate_documents,
    read_block,
    rows_by_shard,
    target_lengths,
)
from data_pipeline.pretraining.config import Pairs, special_tokens
from data_pipeline.pretraining.examples import EXAMPLE


def plan_block(
    split: Split, pairs: Pairs, draws: Draws, sequence_length: int, short_probability: float
) -> np.ndarray:
    """All examples of a block, shuffled: a pure function of its arguments.

    A chunk is a run of sentences of one document that reaches the target length.

    - "next_sentence" (BERT): A is the first part of the chunk, cut after a random sentence. B is
      the rest (label 0), or, with probability 1/2, a stretch of another document (label 1); the
      rest then goes into the next chunk.
    - "sentence_order" (ALBERT, arXiv:1909.11942, section 3.1): A and B are the two parts of the
      chunk (label 0), or, with probability 1/2, they are swapped (label 1).
    - "doc_sentences": A is the chunk.

    A chunk of one sentence cannot be split. As in both originals, B is then a stretch of another
    document and the label is 1. Pairs that are too long are truncated to the sequence length.

    `draws` has the block and is the source of all randomness. `sequence_length` includes special
    tokens. `short_probability` is how often a document's chunks aim at a random shorter length.
    Pairs need a split of at least two documents. Returns `EXAMPLE` [n], n > 0.
    """
    text = read_block(split, draws)
    document_of, total = text.document_of, len(text.document_of)  # of S sentences
    document_end = text.document_end[document_of]
    cumulative = np.concatenate([[0], np.cumsum(text.lengths)])  # [S + 1]
    budget = sequence_length - special_tokens(pairs)
    target = target_lengths(draws, len(text.documents), budget, short_probability)  # [D]

    # For every sentence as a chunk's start: where A and the chunk end, and the next one starts.
    index = np.arange(total)
    end = np.searchsorted(cumulative, cumulative[:-1] + target[document_of])
    a_end = end = np.minimum(end, document_end)
    is_random = is_swapped = np.zeros(total, bool)
    if pairs != "doc_sentences":
        # A takes 1 .. size - 1 sentences; a chunk of one sentence has no rest, so B must be random.
        rest = end - index - 1
        heads = coin(draws.bits(Draw.IS_RANDOM, total))
        is_random = rest == 0
        if pairs == "next_sentence":
            is_random |= heads
        else:
            is_swapped = heads & ~is_random
        a_end = index + 1 + uniform_below(draws.bits(Draw.A_SENTENCES, total), rest)
    following = np.where(is_random, a_end, end)  # unused sentences are put back
    chunk = follow_links(following, text.document_start, document_end)  # [N]

    examples = np.zeros(len(chunk), EXAMPLE)
    own = document_of[chunk]
    a_end, end, is_random, is_swapped = (
        array[chunk] for array in (a_end, end, is_random, is_swapped)
    )
    a_length = cumulative[a_end] - cumulative[chunk]
    examples["shard"] = text.shard[own][:, None]
    examples["offset"][:, 0] = text.starts[chunk]
    examples["length"][:, 0] = a_length
    examples["offset"][:, 1] = text.starts[chunk] + a_length
    examples["length"][:, 1] = cumulative[end] - cumulative[a_end]
    examples["label"] = is_random | is_swapped
    rows = np.flatnonzero(is_random)
    if len(rows):
        other = uniform_below(draws.bits(Draw.DOCUMENT, len(rows)), split.documents - 1)
        other += other >= text.documents[own[rows]]  # any document but its own
        bits = draws.bits(Draw.SENTENCE, len(rows))
        stretches = _random_stretches(split, other, bits, target[own[rows]] - a_length[rows])
        for field, values in zip(("shard", "offset", "length"), stretches, strict=True):
            examples[field][rows, 1] = values
    for field in ("offset", "length"):
        examples[field][is_swapped] = examples[field][is_swapped, ::-1]

    lost = truncate_pair(examples["length"], budget)
    examples["offset"][:, 0] += coin_sum(draws.key(Draw.FRONT_A), lost[:, 0])
    examples["offset"][:, 1] += coin_sum(draws.key(Draw.FRONT_B), lost[:, 1])
    examples["length"] -= lost
    examples["key"] = draws.bits(Draw.MASK, len(examples))
    return draws.shuffled(examples)


def truncate_pair(lengths: np.ndarray, budget: int) -> np.ndarray:
    """How many tokens A and B lose until they fit: int64 [n, 2] for int64 [n, 2] `lengths`.

    `truncate_seq_pair` of the original takes one token at a time from the longer segment, from B on
    ties. So the longer one first loses the difference, then both lose in turn, beginning with B.
    """
    excess = np.maximum(lengths.sum(axis=1) - budget, 0)
    difference = lengths[:, 0] - lengths[:, 1]
    alone = np.minimum(excess, np.abs(difference))
    in_turns = excess - alone
    lost_a = np.where(difference > 0, alone, 0) + in_turns // 2
    return np.stack([lost_a, excess - lost_a], axis=1)


def _random_stretches(
    split: Split, documents: np.ndarray, bits: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A stretch of whole sentences, at least one, of each of the documents, int64 [n].

    uint64 `bits` choose its first sentence. It ends once it has `target` tokens, int64 [n], or at
    the end of its document. Returns shard, token offset and number of tokens, int64 [n] each.
    """
    shard, first, last = locate_documents(split, documents)
    start = first + uniform_below(bits, last - first)
    target = np.maximum(target, 1)
    offset, length = np.empty_like(start), np.empty_like(start)
    for number, rows in rows_by_shard(shard):
        offsets = split.shards[number].sentences
        begin = offsets[start[rows]].astype(np.int64)
        # Every sentence has at least one token.
        latest = np.minimum(start[rows] + target[rows], last[rows])
        end = _first_at_least(offsets, begin + target[rows], start[rows] + 1, latest)
        offset[rows] = begin
        length[rows] = offsets[end] - begin
    return shard, offset, length


def _first_at_least(
    array: np.ndarray, values: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """The first index in low .. high - 1 at which the sorted `array` reaches the value, else high.

    `values`, `low` <= `high` and the result are int64 [n]. np.searchsorted would begin in the
    middle of the whole array, touching pages of a mapped file that nothing else needs.
    """
    while (low < high).any():
        middle = (low + high) // 2
        is_below = (low < high) & (array[middle] < values)
        low = np.where(is_below, middle + 1, low)
        high = np.where(is_below, high, middle)
    return low
