"""The tf.data graph: planned batches are collated in parallel, ahead of the consumer."""

import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from data_pipeline.pretraining.collate import Batch
from data_pipeline.pretraining.examples import EXAMPLE
from data_pipeline.tensorflow_setup import import_tensorflow

_PLANS_AHEAD = 16
_BATCHES_AHEAD = 8


class _Iterator(Iterator[Batch]):
    """The iterator of a tf.data dataset, ended before the interpreter exits.

    The dataset's threads call Python. A call made while the interpreter is being torn down never
    returns, and TensorFlow would wait for it forever.
    """

    def __init__(self, dataset: Any):
        # The list is the only owner. It is emptied when this object is deleted, or before the exit.
        self._owner = [dataset.as_numpy_iterator()]
        weakref.finalize(self, self._owner.clear)

    def __next__(self) -> Batch:
        return next(self._owner[0])


@functools.cache
def importing() -> threading.Thread:
    """The thread that imports TensorFlow, which takes seconds."""
    # TensorFlow may be the first to import these, which fails once the interpreter is exiting.
    from concurrent.futures import process, thread  # noqa: F401

    importer = threading.Thread(target=import_tensorflow, name="import of TensorFlow")
    importer.start()
    return importer


def stream(
    plans: Iterator[tuple[np.ndarray, np.ndarray]],
    collate: Callable[[np.ndarray], Batch],
    workers: int,
) -> Iterator[Batch]:
    """Collates planned batches in parallel and in order, ahead of the consumer.

    TensorFlow is imported once the third batch is asked for. Until that is done, batches are
    collated one by one, when they are asked for; meanwhile the consumer compiles its step.

    A planned batch is `EXAMPLE` [B], or [B, any] packed, and its cursor, int64 [3]. `collate` makes
    a batch of fixed shapes of the former, which gets the latter as "cursor". Deleting the iterator
    ends its threads.
    """
    for number, (examples, cursor) in enumerate(plans):
        batch = collate(examples)
        yield batch | {"cursor": cursor}
        # The first step has asked for two in advance, and keeps Python busy at that time.
        if number and not importing().is_alive():
            break
    tf = import_tensorflow()

    # TensorFlow has no structured arrays: an example travels as its eight-byte integers.
    def as_integers() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for planned, cursor in plans:
            yield planned.view(np.int64).reshape(*planned.shape, -1), cursor

    def load(planned: Any, cursor: Any) -> dict[str, Any]:
        arrays = tf.numpy_function(
            lambda integers: list(collate(integers.view(EXAMPLE)[..., 0]).values()),
            [planned],
            [array.dtype for array in batch.values()],
            stateful=False,
        )
        return dict(zip(batch, arrays, strict=True)) | {"cursor": cursor}

    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.threading.private_threadpool_size = workers + 1
    packed = [None] * (examples.ndim - 1)
    dataset = (
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
    yield from _Iterator(dataset)
