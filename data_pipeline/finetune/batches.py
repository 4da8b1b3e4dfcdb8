"""Batches of features: shuffled by length buckets for training, in order for evaluation."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from data_pipeline.finetune.buckets import BucketBatch, bucket_batches, padding_share
from data_pipeline.finetune.features import Batch, Feature, collate


def steps_per_epoch(features: int, batch_size: int) -> int:
    """The batches that hold every feature once.

    >>> steps_per_epoch(9, batch_size=4)
    3
    """
    return -(-features // batch_size)


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingBatches:
    """The endless batches of a task: a pure function of the features, the seed and the cursor.

    The last batch of an epoch is filled up with zeros. The boundaries are those of the length
    buckets, see `buckets`; the seed is for the order.
    """

    rows: Sequence[Feature]
    _: dataclasses.KW_ONLY
    batch_size: int
    boundaries: Sequence[int]
    seed: int

    def padding_share(self) -> float:
        """Share of padding in the first epoch's batches."""
        return padding_share(self._lengths(), self._epoch(0))

    def _lengths(self) -> np.ndarray:
        return np.array([row.length for row in self.rows])

    def _epoch(self, epoch: int) -> list[BucketBatch]:
        return bucket_batches(
            self._lengths(),
            self.boundaries,
            batch_size=self.batch_size,
            seed=self.seed,
            epoch=epoch,
        )

    def __call__(self, cursor: Sequence[int] | None) -> Iterator[Batch]:
        """Batches from (epoch, batch) on, each with the "cursor" after it, int64 [2]."""
        epoch, first = cursor or (0, 0)
        while True:
            batches = self._epoch(epoch)
            for number in range(first, len(batches)):
                chosen = [self.rows[index] for index in batches[number].indices]
                batch = collate(chosen, batches[number].length, self.batch_size)
                after = (epoch, number + 1) if number + 1 < len(batches) else (epoch + 1, 0)
                yield batch | {"cursor": np.array(after, np.int64)}
            epoch, first = epoch + 1, 0


def ordered_batches(
    rows: Sequence[Feature], *, batch_size: int, boundaries: Sequence[int]
) -> Iterator[tuple[np.ndarray, Batch]]:
    """Every feature once, by length, so that there is little padding.

    Yields the indices of features, int64 [n], and their batch. It is padded to one of the
    boundaries, which increase and hold the longest feature; the last batch is filled up with zeros.
    """
    lengths = np.array([row.length for row in rows], np.int64)
    order = np.argsort(lengths, kind="stable")
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        length = int(boundaries[int(np.searchsorted(boundaries, lengths[chosen].max()))])
        yield chosen, collate([rows[index] for index in chosen], length, batch_size)
