"""Windows over texts that are longer than the model's input."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Window(NamedTuple):
    """The tokens `first` to `end` (exclusive) of a text.

    `has_most`, bool [end - first], says which tokens have their maximum context in this window.
    """

    first: int
    end: int
    has_most: np.ndarray


def token_windows(
    length: int, size: int, stride: int | None = None, *, full: bool = False
) -> list[Window]:
    """Windows of `size` tokens, as many as cover `length`; one empty window if that is 0.

    A token's context in a window is the shorter of its two sides, plus a hundredth of the window's
    length; on ties the first window has the maximum (`_check_is_max_context` of the original's
    run_squad.py).

    Args:
      stride: tokens between the starts of two windows; by default, and where windows are no longer
        than this, half a window, so that they always overlap.
      full: the last window starts earlier, to be as long as the others. Otherwise it keeps the
        stride and is shorter.

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
    # A hundred times the original's score: in whole numbers ties are exact.
    score = 100 * np.minimum(tokens - starts, stops - 1 - tokens) + stops - starts
    inside = (tokens >= starts) & (tokens < stops)
    best = np.argmax(np.where(inside, score, -1), axis=0)
    return [
        Window(first, end, best[first:end] == number)
        for number, (first, end) in enumerate(zip(firsts.tolist(), ends.tolist(), strict=True))
    ]


def sentence_windows(lengths: Sequence[int], max_length: int) -> list[tuple[int, int, int]]:
    """Windows of whole sentences: (first sentence shown, first scored, end).

    Each sentence, of `lengths` tokens up to `max_length`, is scored in one window. From the second
    window on, the scored sentences fill at most half of it, and the ones before them the rest.

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
