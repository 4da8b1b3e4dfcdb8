"""Masked-LM targets for a batch, as in BERT: the positions to predict and what is shown there.

The rules are those of `create_masked_lm_predictions` in create_pretraining_data.py of
google-research/bert. Every draw is a function of the example's key and the position, so that it
does not depend on which other examples are in the batch.
"""

import numpy as np

from data_pipeline.keyed_random import random_bits, uniform

MASK_RATE = 0.8  # of the predicted positions, shown as [MASK]
KEEP_RATE = 0.1  # shown unchanged; the rest shows a random piece
MAX_LENGTH = 1 << 16  # a position must fit the low bits of a sort key
_LOW_BITS = np.uint64(MAX_LENGTH - 1)
_NOT_ELIGIBLE = np.uint64((1 << 64) - 1)


def mask_tokens(
    input_ids: np.ndarray,
    eligible: np.ndarray,
    lengths: np.ndarray,
    keys: np.ndarray,
    *,
    max_predictions: int,
    probability: float,
    mask_id: int,
    vocab_size: int,
    starts_word: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chooses positions and overwrites them in `input_ids`.

    A row gets min(max_predictions, max(1, round(probability · length))) predictions, as far as it
    has eligible tokens. Each is shown as [MASK] (80%), as itself (10%) or as a random piece of the
    whole vocabulary (10%).

    With `starts_word`, whole words are chosen in random order, and a word that would overshoot the
    number of predictions is skipped, so that a row may have fewer, even none. A word is a piece
    with the pieces that follow it and start no word; it ends at a special token at the latest.
    (In the original, a continuation right after [SEP] belonged to the word before [SEP].)

    Args:
      input_ids: int32 [B, L], changed in place.
      eligible: bool [B, L], true where a token may be predicted; the last column is false.
      lengths: int [B], tokens of each row, [CLS] and [SEP] among them.
      keys: uint64 [B], scrambled, the source of all randomness of a row.
      max_predictions: K.
      probability: share of tokens to predict.
      mask_id: the token id of [MASK].
      vocab_size: number of pieces.
      starts_word: bool [vocab_size], true where a piece starts a word; None for single tokens.

    Returns:
      masked_positions int32 [B, K], ascending in a row; masked_labels int32 [B, K];
      masked_weights float32 [B, K]; all 0 where unused.
    """
    # np.rint rounds half to even, like Python's round in the original.
    wanted = np.clip(np.rint(probability * lengths).astype(np.int64), 1, max_predictions)
    if starts_word is None:
        selected = _select_tokens(eligible, wanted, keys, max_predictions)
    else:
        selected = _select_words(eligible, wanted, keys, starts_word[input_ids])
    # P predictions of the whole batch, in order of row and position.
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

    # Counters from MAX_LENGTH on: those below chose the positions.
    bits = random_bits(keys[row], position + MAX_LENGTH)
    choice = uniform(bits)
    # The low 32 bits choose the piece; the choice uses them only beyond its sixth decimal.
    piece = ((bits & np.uint64(0xFFFFFFFF)) * np.uint64(vocab_size)) >> np.uint64(32)
    shown = np.where(choice < MASK_RATE + KEEP_RATE, originals, piece.astype(np.int32))
    flat_ids[place] = np.where(choice < MASK_RATE, mask_id, shown)
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


def _select_words(
    eligible: np.ndarray, wanted: np.ndarray, keys: np.ndarray, starts_word: np.ndarray
) -> np.ndarray:
    """bool [B, L], true at the pieces of random words, at most `wanted` in each row."""
    size, length = eligible.shape
    # A piece after a special token starts a word, whatever it looks like.
    start = eligible.copy()
    start[:, 1:] &= starts_word[:, 1:] | ~eligible[:, :-1]
    # A word reaches to the next start or special token. The last column is one.
    boundary = np.flatnonzero(start | ~eligible)
    word_length = np.diff(boundary, append=size * length)
    is_word = start.reshape(-1)[boundary]
    place, word_length = boundary[is_word], word_length[is_word]
    row, column = np.divmod(place, length)

    # Sorting a row's words by a random number that carries their length and position along.
    ranks = np.full((size, length), _NOT_ELIGIBLE)
    random = random_bits(keys[row], column) & ~np.uint64(0xFFFFFFFF)
    ranks[row, column] = random | (word_length << 16 | column).astype(np.uint64)
    ranks.sort(axis=1)
    words = np.bincount(row, minlength=size)

    # All rows look at their first word, then at their second, and so on.
    in_order = (ranks & np.uint64(0xFFFFFFFF)).astype(np.int64).T  # [rank, B]
    remaining = wanted.copy()
    takes = np.zeros((int(words.max(initial=0)), size), bool)
    for number, take in enumerate(takes):
        word_length = in_order[number] >> 16
        np.less_equal(word_length, remaining, out=take)
        take &= number < words
        remaining -= word_length * take
        if not (remaining * (number + 1 < words)).any():
            break
    rank, row = np.nonzero(takes)
    word_length, column = np.divmod(in_order[rank, row], MAX_LENGTH)
    first = np.cumsum(word_length) - word_length
    place = np.repeat(row * length + column - first, word_length) + np.arange(word_length.sum())
    selected = np.zeros(size * length, bool)
    selected[place] = True
    return selected.reshape(size, length)
