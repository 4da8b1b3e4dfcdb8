"""The tf.data graph: planned batches are filled in parallel and ahead of the consumer."""

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from data_pipeline.pretraining.examples import EXAMPLE
from data_pipeline.pretraining.filling import Batch
from data_pipeline.tensorflow_setup import import_tensorflow

_PLANS_AHEAD = 16
_BATCHES_AHEAD = 8


class _Iterator(Iterator[Batch]):
    """The iterator of a tf.data dataset, ended in time when the interpreter exits.

    The dataset's threads call Python. When they want to while the interpreter is being torn down,
    they never return, and TensorFlow waits for them forever.
    """

    def __init__(self, dataset: Any):
        # The list is the only owner, and it is emptied when this object goes, or before the exit.
        self._owner = [dataset.as_numpy_iterator()]
        weakref.finalize(self, self._owner.clear)

    def __next__(self) -> Batch:
        return next(self._owner[0])


def stream(
    plans: Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]],
    fill: Callable[[np.ndarray], Batch],
    workers: int,
) -> Iterator[Batch]:
    """Fills planned batches in parallel and in order, ahead of the consumer.

    Args:
      plans: gives the planned batches from the first one on, each with its cursor: `EXAMPLE` [B],
        or [B, any] packed, and int64 [3].
      fill: from such an array to a batch of fixed shapes, without "cursor".
      workers: parallel calls of `fill`.

    Returns:
      An iterator of batches with "cursor". Deleting it ends its threads.
    """
    tf = import_tensorflow()
    examples, cursor = next(plans())
    sample = fill(examples)
    packed = [None] * (examples.ndim - 1)

    # TensorFlow carries no structured arrays: an example travels as the int64 that it consists of.
    def as_integers() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for examples, cursor in plans():
            yield examples.view(np.int64).reshape(*examples.shape, -1), cursor

    def load(examples: Any, cursor: Any) -> dict[str, Any]:
        arrays = tf.numpy_function(
            lambda integers: list(fill(integers.view(EXAMPLE)[..., 0]).values()),
            [examples],
            [array.dtype for array in sample.values()],
            stateful=False,
        )
        return dict(zip(sample, arrays, strict=True)) | {"cursor": cursor}

    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.threading.private_threadpool_size = workers + 1
    dataset = (
        tf.data.Dataset.from_generator(
            as_integers,
            output_signature=(
                tf.TensorSpec((len(examples), *packed, EXAMPLE.itemsize // 8), tf.int64),
                tf.TensorSpec(cursor.shape, tf.int64),
            ),
        )
        .prefetch(_PLANS_AHEAD)
        .map(load, num_parallel_calls=workers)
        .prefetch(_BATCHES_AHEAD)
        .with_options(options)
    )
    return _Iterator(dataset)
