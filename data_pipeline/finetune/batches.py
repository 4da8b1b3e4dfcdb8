"""Batches of features: shuffled by length buckets for training, in order for evaluation."""

from collections.abc import Iterator, Sequence

import numpy as np

from data_pipeline.finetune.buckets import bucket_batches, padding_share
from data_pipeline.finetune.features import Batch, Feature, collate


def steps_per_epoch(features: int, batch_size: int) -> int:
    """Batches in which every feature is once.

    >>> steps_per_epoch(9, batch_size=4)
    3
    """
    return -(-features // batch_size)


class TrainingBatches:
    """The endless batches of a task: a pure function of the features, the seed and the cursor.

    Args:
      rows: the features.
      batch_size: rows of a batch; the last batch of an epoch is filled up with zeros.
      boundaries: of the length buckets, see `buckets`.
      seed: of the order.
    """

    def __init__(
        self,
        rows: Sequence[Feature],
        *,
        batch_size: int,
        boundaries: Sequence[int],
        seed: int,
    ):
        self._rows = rows
        self._lengths = np.array([row.length for row in rows])
        self._boundaries = tuple(boundaries)
        self._batch_size = batch_size
        self._seed = seed

    def padding_share(self) -> float:
        """Share of the places of the first epoch's batches that hold padding."""
        return padding_share(self._lengths, self._epoch(0))

    def _epoch(self, epoch: int) -> list:
        return bucket_batches(
            self._lengths,
            self._boundaries,
            batch_size=self._batch_size,
            seed=self._seed,
            epoch=epoch,
        )

    def __call__(self, cursor: Sequence[int] | None) -> Iterator[Batch]:
        """Batches from (epoch, batch) on, each with the "cursor" after it, int64 [2]."""
        epoch, first = cursor or (0, 0)
        while True:
            batches = self._epoch(epoch)
            for number in range(first, len(batches)):
                chosen = [self._rows[index] for index in batches[number].indices]
                batch = collate(chosen, batches[number].length, self._batch_size)
                after = (epoch, number + 1) if number + 1 < len(batches) else (epoch + 1, 0)
                yield batch | {"cursor": np.array(after, np.int64)}
            epoch, first = epoch + 1, 0


def ordered_batches(
    rows: Sequence[Feature], *, batch_size: int, boundaries: Sequence[int]
) -> Iterator[tuple[np.ndarray, Batch]]:
    """Every feature once, by length, so that little is padding.

    Args:
      rows: the features.
      batch_size: rows of a batch; the last one is filled up with zeros.
      boundaries: increasing lengths that batches are padded to; the longest feature fits the last.

    Yields:
      (numbers of the features, int64 [n]; their batch).
    """
    lengths = np.array([row.length for row in rows], np.int64)
    order = np.argsort(lengths, kind="stable")
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        length = int(boundaries[int(np.searchsorted(boundaries, lengths[chosen].max()))])
        yield chosen, collate([rows[index] for index in chosen], length, batch_size)
