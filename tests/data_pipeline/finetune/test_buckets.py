"""Length buckets: what they promise, on random lengths."""

import itertools

import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.finetune.buckets import (
    bucket_batches,
    bucket_boundaries,
    fitted_boundaries,
    padding_share,
)

BOUNDARIES = (8, 16, 32, 64)


def random_lengths(size, seed=0):
    return np.minimum(np.random.default_rng(seed).geometric(1 / 15, size), 64)


def batches(lengths, boundaries=BOUNDARIES, batch_size=7, seed=0, epoch=0):
    return bucket_batches(lengths, boundaries, batch_size=batch_size, seed=seed, epoch=epoch)


def as_lists(found):
    return [(batch.indices.tolist(), batch.length) for batch in found]


@pytest.mark.parametrize("size", [1, 6, 7, 8, 40, 1000])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_every_example_once_in_batches_of_one_size(size, batch_size):
    lengths = random_lengths(size, seed=size)
    for epoch in range(3):
        found = batches(lengths, batch_size=batch_size, epoch=epoch)
        used = np.concatenate([batch.indices for batch in found])
        assert sorted(used.tolist()) == list(range(size))
        assert len(found) == -(-size // batch_size)
        partial = [batch for batch in found if len(batch.indices) != batch_size]
        assert len(partial) == (size % batch_size > 0)
        assert {batch.length for batch in found} <= set(BOUNDARIES)
        longest = max(batch.length for batch in found)
        assert all(batch.length == longest for batch in partial)
        for batch in found:
            assert lengths[batch.indices].max() <= batch.length


def test_an_example_is_in_its_bucket_or_filled_up_a_longer_one():
    lengths = random_lengths(1000)
    own = np.array(BOUNDARIES)[np.searchsorted(BOUNDARIES, lengths)]
    for length in BOUNDARIES:
        indices = np.concatenate([b.indices for b in batches(lengths) if b.length == length])
        assert (own[indices] < length).sum() < 7


def test_a_pure_function_of_seed_and_epoch():
    lengths = random_lengths(300)
    first = as_lists(batches(lengths))
    assert first == as_lists(batches(lengths))
    others = [as_lists(batches(lengths, seed=1)), as_lists(batches(lengths, epoch=1))]
    assert all(set(map(str, other)).isdisjoint(map(str, first)) for other in others)
    order = [length for _, length in first]
    assert order != sorted(order), "the batches are shuffled"


def test_padding_share_is_what_is_counted():
    lengths = random_lengths(500)
    found = batches(lengths)
    rows = [[1] * lengths[i] + [0] * (b.length - lengths[i]) for b in found for i in b.indices]
    places = [place for row in rows for place in row]
    assert padding_share(lengths, found) == pytest.approx(places.count(0) / len(places))
    whole = padding_share(lengths, batches(lengths, boundaries=(64,)))
    assert whole == pytest.approx(1 - lengths.mean() / 64)
    assert padding_share(lengths, found) < 0.4 < 0.7 < whole
    assert padding_share(lengths[:0], []) == 0


def test_boundaries():
    assert bucket_boundaries(32) == (32,)
    assert bucket_boundaries(33) == (32, 33)
    assert bucket_boundaries(512) == (32, 64, 128, 256, 512)
    assert batches(np.array([8, 9, 64]), batch_size=1, boundaries=(8, 64))
    assert batches(np.zeros(0, np.int64)) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch size 0 is not positive"),
        ({"boundaries": ()}, "must be positive and increase"),
        ({"boundaries": (64, 32)}, r"\(64, 32\) must be positive and increase"),
        ({"boundaries": (0, 64)}, "must be positive and increase"),
        ({"boundaries": (8, 16)}, "an example has 64 tokens, the last length bucket ends at 16"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(DataError, match=message):
        batches(np.array([3, 64]), **change)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("longest", [61, 64, 90])
@pytest.mark.parametrize("price", [0, 100])
def test_fitted_boundaries_cost_least(number, longest, price):
    lengths = np.random.default_rng(number).integers(1, 62, 40)
    found = fitted_boundaries(lengths, longest, epochs=3, price=price, number=number, step=8)
    assert len(found) <= number

    def cost(boundaries):
        places = np.array(boundaries)[np.searchsorted(boundaries, lengths)].sum()
        return 3 * places + price * len(boundaries)

    candidates = [*range(8, min(longest, 64), 8), min(longest, 64)]
    assert set(found) <= set(candidates)
    possible = [
        chosen
        for size in range(1, number + 1)
        for chosen in itertools.combinations(candidates, size)
        if chosen[-1] >= lengths.max()
    ]
    assert cost(found) == min(map(cost, possible))


def test_a_boundary_must_be_worth_its_compilation():
    few, many = np.array([7, 60] * 10), np.array([7, 60] * 1000)
    assert fitted_boundaries(few, 128, epochs=3, price=10_000) == (60,)
    assert fitted_boundaries(many, 128, epochs=3, price=10_000) == (8, 60)
    assert fitted_boundaries(few, 128, epochs=300, price=10_000) == (8, 60)


def test_one_length_is_one_bucket():
    assert fitted_boundaries(np.array([7, 7]), 128, epochs=1, price=0) == (8,)
    assert fitted_boundaries(np.array([20]), 20, epochs=1, price=0) == (20,)
