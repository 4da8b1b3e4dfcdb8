"""Worker processes that start quickly, end with their parent, and give results in order."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _WorkerProcess(SpawnProcess):
    """A spawned process that does not import the script that was started.

    Workers import what they need by name. The script might import jax, which would take each of
    them seconds, or start its work without a guard for `__main__`.
    """

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        script = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            return SpawnProcess._Popen(process_obj)
        finally:
            sys.modules["__main__"] = script


class _WorkerContext(SpawnContext):
    Process = _WorkerProcess


@contextmanager
def worker_pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that stop at once when the block is left by an error, and never outlive us."""
    pool = ProcessPoolExecutor(processes, _WorkerContext(), initializer=_start_worker)
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def ordered_map(
    pool: ProcessPoolExecutor, function: Callable[[T], R], values: Iterable[T], waiting: int
) -> Iterator[R]:
    """Results in the order of the values; at most `waiting` are in progress or not yet used."""
    pending: deque[Future[R]] = deque()
    for value in values:
        pending.append(pool.submit(function, value))
        if len(pending) >= waiting:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow_parent() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()
