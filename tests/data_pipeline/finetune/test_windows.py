"""Windows over long texts: against brute force and the original's loops."""

import itertools

import numpy as np
import pytest

from data_pipeline.finetune.windows import sentence_windows, token_windows


def _slow_starts(length, size, stride):
    """The loop of run_squad.py."""
    starts, start = [], 0
    while True:
        starts.append(start)
        if start + size >= length:
            return starts
        start += min(size, stride)


def _slow_maximum(starts, size, length, position):
    """`_check_is_max_context` of run_squad.py."""
    best, number = None, None
    for index, start in enumerate(starts):
        held = min(size, length - start)
        end = start + held - 1
        if not start <= position <= end:
            continue
        score = min(position - start, end - position) + 0.01 * held
        if best is None or score > best:
            best, number = score, index
    return number


def test_windows_equal_the_original():
    random = np.random.default_rng(0)
    for _ in range(200):
        length, size = random.integers(1, 60), random.integers(2, 30)
        stride = random.integers(1, size)
        windows = token_windows(length, size, stride)
        starts = [window.first for window in windows]
        assert starts == _slow_starts(length, size, stride)
        assert [window.end for window in windows] == [min(s + size, length) for s in starts]
        for position in range(length):
            best = _slow_maximum(starts, size, length, position)
            for number, (first, end, has_most) in enumerate(windows):
                if first <= position < end:
                    assert has_most[position - first] == (number == best)


def test_windows_always_overlap_and_cover_everything():
    for length in range(1, 40):
        for size in range(2, 12):
            windows = token_windows(length, size, stride=128)
            covered = {token for window in windows for token in range(window.first, window.end)}
            assert covered == set(range(length))
            assert all(b.first - a.first < size for a, b in itertools.pairwise(windows))


@pytest.mark.parametrize("size", [3, 6, 7])
def test_full_windows_overlap_and_a_token_counts_where_it_has_most_context(size):
    for length in range(40):
        found = token_windows(length, size, full=True)
        assert found[0][0] == 0
        assert found[-1][1] == length
        assert all(end - first == min(size, length) for first, end, _ in found)
        for (_, end, _), (first, _, _) in itertools.pairwise(found):
            assert first < end
        for token in range(length):
            context = [
                min(token - first, end - 1 - token) if first <= token < end else -1
                for first, end, _ in found
            ]
            counts = [
                bool(mine[token - first]) if first <= token < end else False
                for first, end, mine in found
            ]
            assert sum(counts) == 1
            assert counts.index(True) == context.index(max(context))


def test_windows_of_sentences_score_every_sentence_once_and_fit():
    random = np.random.default_rng(2)
    for _ in range(200):
        lengths = random.integers(1, 20, random.integers(1, 40)).tolist()
        found = sentence_windows(lengths, 24)
        assert [i for _, first, end in found for i in range(first, end)] == list(
            range(len(lengths))
        )
        for number, (start, first, end) in enumerate(found):
            assert sum(lengths[start:end]) <= 24
            assert start == 0 or sum(lengths[start - 1 : end]) > 24  # nothing more fits in front
            if number:
                assert first + 1 == end or sum(lengths[first:end]) <= 12
