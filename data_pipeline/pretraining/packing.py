"""Short sequences packed into full rows, each still a sequence of its own for the model.

Single stretches of a document ("doc_sentences") end with their document, so that with short
documents most of a batch would be padding. All sequences of a block are put into rows by *best fit
decreasing*: the longest first, each into the fullest row that has room for it. Since there are few
distinct lengths, sequences of the same length are placed together, as in the histogram packing of
arXiv:2107.02027. See docs/decisions/packing.md.
"""

import bisect

import numpy as np

from data_pipeline.keyed_random import permute
from data_pipeline.pretraining.blocks import Draw, Draws
from data_pipeline.pretraining.config import special_tokens
from data_pipeline.pretraining.examples import EXAMPLE
from data_pipeline.pretraining.masking import prediction_counts


def sequences_per_row(sequence_length: int, max_predictions: int) -> int:
    """R, the most sequences that a row holds: each has [CLS], a token, [SEP] and a prediction."""
    return min(sequence_length // (special_tokens("doc_sentences") + 1), max_predictions)


def pack_examples(
    examples: np.ndarray,
    draws: Draws,
    sequence_length: int,
    max_predictions: int,
    masked_lm_probability: float,
) -> np.ndarray:
    """The examples of a block in rows, shuffled: a pure function of its arguments.

    Each of the `EXAMPLE` [any] with pairs "doc_sentences" is used once, with its key and so with
    its masks. A row of `sequence_length` tokens and `max_predictions` slots has room for the tokens
    of its examples, including special ones, and for as many predictions as they may get.

    Returns:
      `EXAMPLE` [n, R], n > 0, with R = `sequences_per_row`: in each row at least one example, then
      zeros.
    """
    tokens = examples["length"][:, 0] + special_tokens("doc_sentences")
    predictions = prediction_counts(tokens, masked_lm_probability, max_predictions)
    row = assign_rows(tokens, predictions, sequence_length, max_predictions)
    size = int(row.max()) + 1
    row = permute(row, size, draws.key(Draw.ROWS))
    order = np.argsort(row, kind="stable")  # within a row, the examples stay shuffled
    row = row[order]
    rows = np.zeros((size, sequences_per_row(sequence_length, max_predictions)), EXAMPLE)
    rows[row, np.arange(len(row)) - np.searchsorted(row, row)] = examples[order]
    return rows


def assign_rows(
    tokens: np.ndarray, predictions: np.ndarray, row_tokens: int, row_predictions: int
) -> np.ndarray:
    """The row of each sequence by best fit decreasing, int64 [n]; rows are 0, 1, ... without gaps.

    Args:
      tokens: int64 [n], length of each sequence, 1 .. row_tokens.
      predictions: int64 [n], the slots it needs, 1 .. row_predictions; sequences of the same length
        need the same number.
      row_tokens, row_predictions: what a row holds.
    """
    row_of = np.empty(len(tokens), np.int64)
    order = np.argsort(-tokens, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(tokens[order])) + 1)
    rows = 0
    # Rows by the (tokens, predictions) they still have room for, and these keys in order.
    open_rows: dict[tuple[int, int], np.ndarray] = {}
    rooms: list[tuple[int, int]] = []

    def put_back(room: tuple[int, int], numbers: np.ndarray) -> None:
        if not len(numbers):
            return
        if room in open_rows:
            numbers = np.concatenate([open_rows[room], numbers])
        else:
            bisect.insort(rooms, room)
        open_rows[room] = numbers

    for same_length in members:
        need, slots = int(tokens[same_length[0]]), int(predictions[same_length[0]])
        while len(same_length):
            with_room = range(bisect.bisect(rooms, (need, 0)), len(rooms))
            place = next((i for i in with_room if rooms[i][1] >= slots), None)
            if place is None:
                room = row_tokens, row_predictions
                each = min(row_tokens // need, row_predictions // slots)
                numbers = np.arange(rows, rows + -(-len(same_length) // each))
                rows += len(numbers)
            else:
                room = rooms.pop(place)
                numbers = open_rows.pop(room)
                each = min(room[0] // need, room[1] // slots)
            full, rest = divmod(min(len(same_length), each * len(numbers)), each)
            row_of[same_length[: full * each]] = np.repeat(numbers[:full], each)
            row_of[same_length[full * each :][:rest]] = numbers[full : full + 1]
            same_length = same_length[full * each + rest :]
            put_back((room[0] - each * need, room[1] - each * slots), numbers[:full])
            if rest:
                put_back((room[0] - rest * need, room[1] - rest * slots), numbers[full : full + 1])
            put_back(room, numbers[full + (rest > 0) :])
    return row_of
