"""The speed of a run: rates, padding, waiting for input, and goodput.

Steps are dispatched ahead of the device, so waiting costs nothing while the device still has work.
See docs/decisions/speed-metrics.md.
"""

import contextlib
import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax

WARN_INPUT_WAIT = 0.2  # share of the time from which on waiting for input is worth a warning

Batch = TypeVar("Batch")


class DeviceWatch:
    """Knows since when the devices have been idle, without delaying the dispatch.

    A thread waits for the outputs of each step; only the training thread may call the methods.
    """

    def __init__(self) -> None:
        self._outputs: queue.SimpleQueue[tuple[int, Any] | None] = queue.SimpleQueue()
        self._dispatched = 0
        self._done = (0, time.perf_counter())  # the last finished step, and when it finished
        self._thread = threading.Thread(target=self._wait, name="device-watch", daemon=True)

    def __enter__(self) -> "DeviceWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._outputs.put(None)
        self._thread.join()

    def _wait(self) -> None:
        while (entry := self._outputs.get()) is not None:
            number, outputs = entry
            # The training thread meets errors of the device when it fetches the outputs.
            with contextlib.suppress(Exception):
                jax.block_until_ready(outputs)
            self._done = (number, time.perf_counter())

    def dispatched(self, outputs: Any) -> None:
        """Notes a step by its outputs, which must be arrays that no later step overwrites."""
        self._dispatched += 1
        self._outputs.put((self._dispatched, outputs))

    def idle_since(self) -> float | None:
        """When the last step ended, by `time.perf_counter`; None while a step is unfinished."""
        number, when = self._done
        return when if number == self._dispatched else None


class Throughput:
    """Measures the steps between two rows of the log. Times are in seconds.

    The first step of a process and of a stage is not timed, as it compiles; `paused` leaves out
    evaluation and saving.

    Args:
      device: watches the devices.
      peak_flops: dense peak of all devices together in FLOP/s, if known.
      first_start: Unix time at which the run was first started; None for now.
      rows: of the log that the run continues.
      step: number of optimizer steps so far.
    """

    def __init__(
        self,
        device: DeviceWatch,
        *,
        peak_flops: float | None = None,
        first_start: float | None = None,
        rows: Sequence[Mapping[str, Any]] = (),
        step: int = 0,
    ):
        self._device = device
        self._peak_flops = peak_flops
        self._first_start = time.time() if first_start is None else first_start
        self._productive = 0.0  # seconds, of the steps up to `_productive_step`
        self._productive_step = step
        for row in rows:
            if "goodput" in row:
                self._productive = row["goodput"] * (row["time"] - self._first_start)
                self._productive_step = row["step"]

    def begin_stage(self, flops_per_step: float) -> None:
        """Starts again, for steps of another shape."""
        self._flops_per_step = flops_per_step
        self._compiled = False
        self._rows_read = 0
        self._warned = False
        self._restart()

    def _restart(self) -> None:
        self._start = time.perf_counter()
        self._seconds = self._waited = 0.0
        self._steps = self._sequences = self._tokens = self._slots = 0

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches; measures how long the devices are idle while waiting for them."""
        while True:
            begin = time.perf_counter()
            with jax.profiler.TraceAnnotation("wait for input"):
                batch = next(batches, None)
            if batch is None:
                return
            idle_since = self._device.idle_since()
            if idle_since is not None:
                self._waited += max(time.perf_counter() - max(begin, idle_since), 0.0)
            yield batch

    def count(self, outputs: Any, *, sequences: int, tokens: int, slots: int) -> None:
        """Counts a dispatched step, by its sizes on all hosts; `outputs` as of `DeviceWatch`.

        `tokens` do not include padding, `slots` do.
        """
        self._device.dispatched(outputs)
        if not self._compiled:
            jax.block_until_ready(outputs)
            self._compiled = True
            self._restart()
            return
        self._steps += 1
        self._sequences += sequences
        self._tokens += tokens
        self._slots += slots

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves out the time within the block; the devices must have finished all steps."""
        self._seconds += time.perf_counter() - self._start
        try:
            yield
        finally:
            self._start = time.perf_counter()

    def read(self, step: int) -> dict[str, float]:
        """The figures since the last reading; empty if no step was timed.

        docs/training.md explains them. The devices must have finished all steps. `step` is the
        number of optimizer steps so far.
        """
        if not self._steps:
            self._restart()
            return {}
        seconds = max(self._seconds + time.perf_counter() - self._start, 1e-9)
        flops_per_second = self._steps * self._flops_per_step / seconds
        figures = {
            "sequences_per_second": self._sequences / seconds,
            "tokens_per_second": self._tokens / seconds,
            "padding_share": 1 - self._tokens / self._slots,
            "input_wait_share": self._waited / seconds,
            "model_flops_per_second": flops_per_second,
        }
        if self._peak_flops:
            figures["mfu"] = flops_per_second / self._peak_flops
        # Steps that were not timed here count like the others: those that compiled, and those that
        # a killed process saved but did not log.
        seconds_per_step = (seconds - self._waited) / self._steps
        self._productive += (step - self._productive_step) * seconds_per_step
        self._productive_step = step
        figures["goodput"] = self._productive / max(time.time() - self._first_start, 1e-9)
        self._rows_read += 1
        self._restart()
        return figures

    def input_warning(self, figures: Mapping[str, float]) -> str | None:
        """Advice if the input limits the speed, once per stage; the first row does not count."""
        share = figures.get("input_wait_share", 0.0)
        if self._warned or self._rows_read < 2 or share < WARN_INPUT_WAIT:
            return None
        self._warned = True
        return (
            f"the devices waited for input {share:.0%} of the time since the last row; give this "
            f"process more than its {_cpu_cores()} CPU cores, or keep the corpus on a faster disk"
        )


def _cpu_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
