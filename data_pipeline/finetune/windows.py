"""Windows over texts that are longer than what the model reads at once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Window(NamedTuple):
    """A stretch of tokens.

    Attributes:
      first, end: its first token and the one after its last.
      has_most: bool [end - first], whether it is in this window that a token has most context.
    """

    first: int
    end: int
    has_most: np.ndarray


def token_windows(
    length: int, size: int, stride: int | None = None, *, full: bool = False
) -> list[Window]:
    """Windows of `size` tokens, as many as cover `length`, and which tokens are read in each.

    A token has most context where the shorter of the stretches on its two sides, plus a hundredth
    of the window's length, is longest; on ties in the first window (the original's run_squad.py,
    `_check_is_max_context`).

    Args:
      length: tokens of the text; of none there is one empty window.
      size: tokens of a window.
      stride: tokens between the beginnings of two windows; by default, and where windows are no
        longer than this, half a window, so that they always overlap.
      full: the last window begins earlier, so that it is as long as the others. Otherwise it keeps
        the stride and is shorter.

    >>> [window[:2] for window in token_windows(10, 6, 3)]
    [(0, 6), (3, 9), (6, 10)]
    >>> [window[:2] for window in token_windows(10, 6, 3, full=True)]
    [(0, 6), (3, 9), (4, 10)]
    """
    if stride is None or stride >= size:
        stride = (size + 1) // 2
    last = max(length - size, 0)
    firsts = np.arange(0, last + stride, stride)
    if full:
        firsts = np.minimum(firsts, last)
    ends = np.minimum(firsts + size, length)
    tokens, starts, stops = np.arange(length), firsts[:, None], ends[:, None]
    # A hundred times the original's score, so that all is whole numbers and ties are exact.
    score = 100 * np.minimum(tokens - starts, stops - 1 - tokens) + stops - starts
    inside = (tokens >= starts) & (tokens < stops)
    best = np.argmax(np.where(inside, score, -1), axis=0)
    return [
        Window(first, end, best[first:end] == number)
        for number, (first, end) in enumerate(zip(firsts.tolist(), ends.tolist(), strict=True))
    ]


def sentence_windows(lengths: Sequence[int], max_length: int) -> list[tuple[int, int, int]]:
    """Windows of whole sentences: (first sentence shown, first scored, end).

    The sentences scored follow from window to window. From the second on they fill at most half of
    it, so that what stands before them fills the rest.

    Args:
      lengths: tokens of each sentence, at most `max_length`.
      max_length: tokens of a window.

    >>> sentence_windows([4, 4, 4, 4, 4], 12)
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
