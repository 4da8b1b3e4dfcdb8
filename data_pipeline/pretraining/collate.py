"""From planned examples to a batch: their tokens, special tokens and masks."""

from collections.abc import Callable
from typing import Any

import numpy as np

from data_pipeline.corpus.shards import Split
from data_pipeline.pretraining.blocks import ranges, sort_by_shard
from data_pipeline.pretraining.config import SEGMENTS, Pairs, special_tokens
from data_pipeline.pretraining.full_sentences import stretches_of_full_sentences

# B sequences of L tokens with K predictions:
#   input_ids             int32 [B, L]    tokens after masking, special tokens and padding
#   token_type_ids        int32 [B, L]    0, but 1 for segment B and the [SEP] after it
#   attention_mask        int32 [B, L]    1 for tokens, 0 for padding
#   masked_positions      int32 [B, K]    positions to predict, ascending, 0 where unused
#   masked_labels         int32 [B, K]    the original tokens, 0 where unused
#   masked_weights        float32 [B, K]  1 for a prediction, 0 where unused
#   next_sentence_labels  int32 [B]       0: B follows A, 1: B is random, or A and B are swapped
#                                         (absent without pairs)
#   cursor                int64 [3]       epoch, block and offset of the example after this batch
# The tokens are [CLS] A [SEP] B [SEP], or [CLS] A [SEP] without pairs, where A has a [SEP] between
# two documents.
#
# A packed row holds several sequences one after the other, then padding. What differs:
#   attention_mask        int32 [B, L]    number of the token's sequence in its row, 1, 2, ...;
#                                         0 for padding
#   position_ids          int32 [B, L]    position of a token in its own sequence, 0 for padding
#                                         (absent unless packed)
#   masked_positions      int32 [B, K]    positions in the row, ascending over all its sequences
#   cursor                int64 [3]       epoch, block and offset of the row after this batch
Batch = dict[str, np.ndarray]


def collate_examples(
    examples: np.ndarray,
    *,
    split: Split,
    pairs: Pairs,
    sequence_length: int,
    special_ids: dict[str, int],
    mask: Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]],
    starts_word: np.ndarray | None = None,
) -> Batch:
    """A batch, without "cursor", of planned examples: reads their tokens and masks them.

    Args:
      examples: `EXAMPLE` [B].
      split: where their tokens are, and where words start if the corpus records that.
      pairs: the kind of examples.
      sequence_length: L.
      special_ids: token ids of "pad", "cls" and "sep".
      mask: `mask_tokens` with all but its first five arguments given.
      starts_word: bool [vocab_size], true where a piece starts a word, for a split that does not
        record it; None where `mask` needs no words.
    """
    size = len(examples)
    if pairs == "full_sentences":
        counts, shard_of, offset, length = stretches_of_full_sentences(examples, split)
    else:
        segments = SEGMENTS[pairs]
        counts = np.full(size, segments)
        shard_of, offset, length = (
            examples[field][:, :segments].reshape(-1) for field in ("shard", "offset", "length")
        )
    row = np.repeat(np.arange(size), counts)  # [T], of each stretch of text
    # A row is [CLS] and its stretches, each followed by a [SEP].
    end = np.cumsum(length + 1)
    row_end = end[np.cumsum(counts) - 1]
    lengths = np.diff(row_end, prepend=0) + 1
    cls = np.arange(size) * sequence_length
    sep = end + (cls + lengths - 1 - row_end)[row]

    input_ids = np.full((size, sequence_length), special_ids["pad"], np.int32)
    flat_ids = input_ids.reshape(-1)
    flat_ids[cls] = special_ids["cls"]
    flat_ids[sep] = special_ids["sep"]
    # The stretches are sorted by shard: their N tokens are read one shard after the other and put
    # in their places together.
    order, runs = sort_by_shard(shard_of)
    length = length[order]
    begin = np.concatenate([[0], np.cumsum(length)])  # [T + 1]
    source = ranges(offset[order], length)  # [N]
    target = ranges(sep[order] - length, length)
    parts = [(split.shards[number], slice(begin[a], begin[b])) for number, a, b in runs]
    tokens = np.empty(len(source), np.int32)
    for shard, part in parts:
        tokens[part] = shard.tokens[source[part]]
    flat_ids[target] = tokens

    columns = np.arange(sequence_length)
    is_token = columns < lengths[:, None]
    eligible = is_token.copy()
    eligible.reshape(-1)[cls] = False
    eligible.reshape(-1)[sep] = False
    if SEGMENTS[pairs] == 2:
        is_b = is_token & (columns > (sep[::2] - cls)[:, None])
    else:
        is_b = np.zeros_like(is_token)
    word_starts = None
    if split.has_words:
        word_starts = np.zeros(input_ids.shape, bool)
        for shard, part in parts:
            assert shard.words is not None
            word_starts.reshape(-1)[target[part]] = shard.words[source[part]]
    elif starts_word is not None:
        word_starts = starts_word[input_ids]
    positions, labels, weights = mask(input_ids, eligible, lengths, examples["key"], word_starts)
    batch = {
        "input_ids": input_ids,
        "token_type_ids": is_b.astype(np.int32),
        "attention_mask": is_token.astype(np.int32),
        "masked_positions": positions,
        "masked_labels": labels,
        "masked_weights": weights,
    }
    if SEGMENTS[pairs] == 2:
        batch["next_sentence_labels"] = examples["label"].astype(np.int32)
    return batch


def collate_packed(rows: np.ndarray, *, sequence_length: int, **others: Any) -> Batch:
    """A packed batch, without "cursor", of `EXAMPLE` [B, R] `rows` from `packing.pack_examples`.

    The examples are collated as if each had a row of its own, as long as the longest of them, so
    that their masks are the same, and then joined. `sequence_length` is that of a row; the others
    are as in `collate_examples`.
    """
    used = rows["length"][..., 0] > 0
    row, number = np.nonzero(used)  # of S sequences
    lengths = rows["length"][used].sum(axis=1) + special_tokens("doc_sentences")
    alone = collate_examples(rows[used], sequence_length=int(lengths.max()), **others)

    # The tokens and predictions have the same order in `alone` as in the rows.
    is_token = alone["attention_mask"] > 0
    is_predicted = alone["masked_weights"] > 0
    token_counts = np.bincount(row, lengths, len(rows))
    prediction_counts = np.bincount(row, is_predicted.sum(axis=1), len(rows))
    token_places = np.arange(sequence_length) < token_counts[:, None]
    prediction_places = np.arange(is_predicted.shape[1]) < prediction_counts[:, None]

    def tokens_in_rows(values: np.ndarray, padding: int = 0) -> np.ndarray:
        together = np.full(token_places.shape, padding, np.int32)
        together[token_places] = np.broadcast_to(values, is_token.shape)[is_token]
        return together

    def predictions_in_rows(values: np.ndarray) -> np.ndarray:
        together = np.zeros(prediction_places.shape, values.dtype)
        together[prediction_places] = values[is_predicted]
        return together

    begin = (np.cumsum(lengths) - lengths).astype(np.int32)
    begin -= begin[np.searchsorted(row, row)]  # of each sequence in its row
    return {
        "input_ids": tokens_in_rows(alone["input_ids"], others["special_ids"]["pad"]),
        "token_type_ids": np.zeros(token_places.shape, np.int32),
        "attention_mask": tokens_in_rows(number[:, None] + 1),
        "position_ids": tokens_in_rows(np.arange(is_token.shape[1])),
        "masked_positions": predictions_in_rows(alone["masked_positions"] + begin[:, None]),
        "masked_labels": predictions_in_rows(alone["masked_labels"]),
        "masked_weights": predictions_in_rows(alone["masked_weights"]),
    }
