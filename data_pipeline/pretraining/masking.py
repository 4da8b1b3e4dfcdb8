"""Masked-LM targets for a batch: the positions to predict and what is shown there.

Single tokens and whole words are chosen as by `create_masked_lm_predictions` in
create_pretraining_data.py of google-research/bert, spans of words as in SpanBERT (arXiv:1907.10529,
section 3.1). Every draw is a function of the example's key and the position, so it does not depend
on the other examples in the batch.
"""

from typing import NamedTuple

import numpy as np

from data_pipeline.keyed_random import random_bits, uniform
from data_pipeline.pretraining.blocks import ranges
from data_pipeline.pretraining.config import Masking

MAX_LENGTH = 1 << 16  # a position must fit the low bits of a sort key
_LOW_BITS = np.uint64(MAX_LENGTH - 1)
_NOT_ELIGIBLE = np.uint64((1 << 64) - 1)

# SpanBERT's geometric distribution of the number of words in a span. Its mean of 3.8 implies that
# lengths above ten are drawn again, not clipped to ten.
_SPAN_PROBABILITY = 0.2
_MAX_SPAN_WORDS = 10
_SPAN_LENGTHS = np.cumsum((1 - _SPAN_PROBABILITY) ** np.arange(_MAX_SPAN_WORDS))
_SPAN_LENGTHS /= _SPAN_LENGTHS[-1]


def prediction_counts(lengths: np.ndarray, probability: float, max_predictions: int) -> np.ndarray:
    """How many predictions sequences of int [n] `lengths`, with special tokens, may get: int64 [n].

    min(max_predictions, max(1, round(probability · length))) as in the original, whose `round`
    rounds half to even.
    """
    return np.clip(np.rint(probability * lengths).astype(np.int64), 1, max_predictions)


def mask_tokens(
    input_ids: np.ndarray,
    eligible: np.ndarray,
    lengths: np.ndarray,
    keys: np.ndarray,
    starts_word: np.ndarray | None = None,
    *,
    masking: Masking = "token",
    max_predictions: int,
    probability: float,
    mask_rate: float = 0.8,
    keep_rate: float = 0.1,
    mask_id: int,
    vocab_size: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chooses the positions to predict and overwrites them in `input_ids`.

    A row gets at most `prediction_counts` predictions.

    - "token": exactly that many single tokens, or all eligible ones if there are fewer.
    - "whole_word": words in random order. A word that would exceed the limit is skipped, so a row
      may get fewer predictions, or even none.
    - "span": spans start at words taken in random order. The number of words in a span is drawn
      from a geometric distribution with p = 0.2 over 1 to 10, whose mean is 3.8. This distribution,
      whole words, uniformly random starts and a single choice of what to show for the whole span
      are the paper's. Where a span ends early is our choice: before a special token, a word that is
      already masked, or a word that would exceed the limit.

    A word is a token that starts one and the tokens after it that do not; it never extends past a
    special token. (In the original, a continuation right after [SEP] belonged to the word before
    [SEP].)

    A chosen token is shown as [MASK] with probability `mask_rate`, unchanged with `keep_rate`, and
    otherwise as a random piece of the whole vocabulary. The tokens of a span share this choice, but
    each gets its own random piece.

    Args:
      input_ids: int32 [B, L], changed in place.
      eligible: bool [B, L], true where a token may be predicted; the last column is false.
      lengths: int [B], tokens of each row, including [CLS] and [SEP].
      keys: uint64 [B], scrambled, the source of all randomness of a row.
      starts_word: bool [B, L], true where a token starts a word; not needed for single tokens.
      masking, max_predictions (K), probability, mask_rate, keep_rate: see `DataConfig`.
      mask_id, vocab_size: the id of [MASK] and the number of pieces.

    Returns:
      masked_positions int32 [B, K], ascending in a row; masked_labels int32 [B, K];
      masked_weights float32 [B, K]; all 0 where unused.
    """
    wanted = prediction_counts(lengths, probability, max_predictions)
    if masking == "token":
        selected = _select_tokens(eligible, wanted, keys, max_predictions)
    else:
        assert starts_word is not None
        words = _find_words(eligible, starts_word, keys)
        most = _MAX_SPAN_WORDS if masking == "span" else 1
        selected, span_start = _select_spans(words, wanted, keys, eligible.shape, most)
    # The predictions of the whole batch, ordered by row and position.
    place = np.flatnonzero(selected)
    row, position = np.divmod(place, input_ids.shape[1])
    counts = np.bincount(row, minlength=len(input_ids))
    slot = row * max_predictions + np.arange(len(row)) - (np.cumsum(counts) - counts)[row]

    shape = (len(input_ids), max_predictions)
    positions, labels = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    weights = np.zeros(shape, np.float32)
    flat_ids = input_ids.reshape(-1)
    originals = flat_ids[place]
    positions.reshape(-1)[slot] = position
    labels.reshape(-1)[slot] = originals
    weights.reshape(-1)[slot] = 1.0

    # Counters below MAX_LENGTH chose the positions.
    bits = random_bits(keys[row], position + MAX_LENGTH)
    choice_bits = bits
    if masking == "span":  # the draw of a span's first position decides for the whole span
        choice_bits = random_bits(keys[row], span_start[place] + MAX_LENGTH)
    choice = uniform(choice_bits)
    # The low 32 bits choose the piece; they affect `choice` only beyond its sixth decimal.
    piece = ((bits & np.uint64(0xFFFFFFFF)) * np.uint64(vocab_size)) >> np.uint64(32)
    shown = np.where(choice < mask_rate + keep_rate, originals, piece.astype(np.int32))
    flat_ids[place] = np.where(choice < mask_rate, mask_id, shown)
    return positions, labels, weights


def _select_tokens(
    eligible: np.ndarray, wanted: np.ndarray, keys: np.ndarray, max_predictions: int
) -> np.ndarray:
    """bool [B, L], true at `wanted` random eligible positions of each row."""
    columns = np.arange(eligible.shape[1])
    # The position in the low bits makes the values of a row distinct.
    ranks = random_bits(keys[:, None], columns) & ~_LOW_BITS | columns.astype(np.uint64)
    ranks[~eligible] = _NOT_ELIGIBLE
    last = min(max_predictions, eligible.shape[1]) - 1
    smallest = np.sort(np.partition(ranks, last, axis=1)[:, : last + 1], axis=1)
    threshold = np.take_along_axis(smallest, np.minimum(wanted, last + 1)[:, None] - 1, axis=1)
    return (ranks <= threshold) & eligible


class _Words(NamedTuple):
    """The N words of a batch, row after row, and a random order of those of each row; int64."""

    place: np.ndarray  # [N], the first token of each, as row · L + column
    length: np.ndarray  # [N], its number of tokens
    in_order: np.ndarray  # [L, B], first column of the r-th word of a row; valid for r < counts
    counts: np.ndarray  # [B], number of words in each row


def _find_words(eligible: np.ndarray, starts_word: np.ndarray, keys: np.ndarray) -> _Words:
    size, length = eligible.shape
    # A piece after a special token starts a word, whatever it looks like.
    start = eligible.copy()
    start[:, 1:] &= starts_word[:, 1:] | ~eligible[:, :-1]
    # A word extends to the next start or special token; the last column is a special token.
    boundary = np.flatnonzero(start | ~eligible)
    word_length = np.diff(boundary, append=size * length)
    is_word = start.reshape(-1)[boundary]
    place, word_length = boundary[is_word], word_length[is_word]
    row, column = np.divmod(place, length)

    # A row's words are sorted by random upper bits; the lower ones carry their position along.
    ranks = np.full((size, length), _NOT_ELIGIBLE)
    random = random_bits(keys[row], column) & ~np.uint64(0xFFFFFFFF)
    ranks[row, column] = random | (word_length << 16 | column).astype(np.uint64)
    ranks.sort(axis=1)
    in_order = (ranks & _LOW_BITS).astype(np.int64).T
    return _Words(place, word_length, in_order, np.bincount(row, minlength=size))


def _select_spans(
    words: _Words, wanted: np.ndarray, keys: np.ndarray, shape: tuple[int, int], most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Random spans of one to `most` whole words, at most `wanted` tokens in each row.

    Returns:
      bool [B, L], true at their tokens; int64 [B · L], the first column of the span of each such
      token.
    """
    place, length = words.place, words.length
    total = len(place)
    # Whether word n + 1 follows word n directly.
    goes_on = np.append(place[1:] == place[:-1] + length[:-1], False)
    number_at = np.empty(shape[0] * shape[1], np.int64)
    number_at[place] = np.arange(total)
    taken = np.zeros(total, bool)
    first_column = np.empty(total, np.int64)
    remaining = wanted.copy()
    rows = np.arange(shape[0])
    steps = np.arange(most)
    # All rows try the span that starts at their first word, then at their second, and so on.
    for rank, in_order in enumerate(words.in_order):
        rows = rows[(remaining[rows] > 0) & (rank < words.counts[rows])]
        if not len(rows):
            break
        column = in_order[rows]
        number = np.minimum(number_at[rows * shape[1] + column][:, None] + steps, total - 1)
        tokens = length[number]
        fits = ~taken[number] & (np.cumsum(tokens, axis=1) <= remaining[rows, None])
        if most > 1:
            limit = _span_words(random_bits(keys[rows], column + 2 * MAX_LENGTH))
            fits &= steps < limit[:, None]
        fits[:, 1:] &= goes_on[number[:, :-1]]
        fits = np.logical_and.accumulate(fits, axis=1)
        taken[number[fits]] = True
        first_column[number[fits]] = np.repeat(column, fits.sum(axis=1))
        remaining[rows] -= (tokens * fits).sum(axis=1)
    tokens = ranges(place[taken], length[taken])
    selected = np.zeros(shape[0] * shape[1], bool)
    selected[tokens] = True
    span_start = np.empty(shape[0] * shape[1], np.int64)
    span_start[tokens] = np.repeat(first_column[taken], length[taken])
    return selected.reshape(shape), span_start


def _span_words(bits: np.ndarray) -> np.ndarray:
    """Number of words in a span, int64 in 1 .. 10, from uint64 `bits`."""
    return 1 + np.searchsorted(_SPAN_LENGTHS, uniform(bits), side="right")
