"""The tf.data graph: planned batches are filled in parallel and ahead of the consumer."""

import functools
import threading
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


@functools.cache
def importing() -> threading.Thread:
    """The thread that imports TensorFlow, which takes seconds."""
    thread = threading.Thread(target=import_tensorflow, name="import of TensorFlow")
    thread.start()
    return thread


def stream(
    plans: Iterator[tuple[np.ndarray, np.ndarray]],
    fill: Callable[[np.ndarray], Batch],
    workers: int,
) -> Iterator[Batch]:
    """Fills planned batches in parallel and in order, ahead of the consumer.

    Until TensorFlow is imported, which begins with the second batch, it fills them one by one as
    they are asked for: meanwhile the consumer has its step compiled.

    Args:
      plans: the planned batches, each with its cursor: `EXAMPLE` [B], or [B, any] packed, and
        int64 [3].
      fill: from such an array to a batch of fixed shapes, without "cursor".
      workers: parallel calls of `fill`.

    Returns:
      An iterator of batches with "cursor". Deleting it ends its threads.
    """
    for examples, cursor in plans:
        batch = fill(examples)
        yield batch | {"cursor": cursor}
        if not importing().is_alive():
            break
    yield from _Iterator(_dataset(plans, fill, workers, examples, batch))


def _dataset(
    plans: Iterator[tuple[np.ndarray, np.ndarray]],
    fill: Callable[[np.ndarray], Batch],
    workers: int,
    examples: np.ndarray,
    batch: Batch,
) -> Any:
    """The graph for the batches that are left, which are like the `batch` of `examples`."""
    tf = import_tensorflow()

    # TensorFlow carries no structured arrays: an example travels as the int64 that it consists of.
    def as_integers() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for examples, cursor in plans:
            yield examples.view(np.int64).reshape(*examples.shape, -1), cursor

    def load(examples: Any, cursor: Any) -> dict[str, Any]:
        arrays = tf.numpy_function(
            lambda integers: list(fill(integers.view(EXAMPLE)[..., 0]).values()),
            [examples],
            [array.dtype for array in batch.values()],
            stateful=False,
        )
        return dict(zip(batch, arrays, strict=True)) | {"cursor": cursor}

    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.threading.private_threadpool_size = workers + 1
    packed = [None] * (examples.ndim - 1)
    return (
        tf.data.Dataset.from_generator(
            as_integers,
            output_signature=(
                tf.TensorSpec((len(examples), *packed, EXAMPLE.itemsize // 8), tf.int64),
                tf.TensorSpec((3,), tf.int64),
            ),
        )
        .prefetch(_PLANS_AHEAD)
        .map(load, num_parallel_calls=workers)
        .prefetch(_BATCHES_AHEAD)
        .with_options(options)
    )
