"""What SIGTERM and Ctrl-C do: a polite end in training, an immediate one while XLA compiles."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class StopSignal:
    """Turns the first SIGTERM or Ctrl-C within its `with` block into a flag; a second one acts.

    Attributes:
      received: the signal's name, None before it came.
    """

    def __init__(self) -> None:
        self.received: str | None = None

    def __enter__(self) -> "StopSignal":
        self._previous = {
            number: signal.signal(number, self._handle)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number).name
        for other, previous in self._previous.items():
            signal.signal(other, previous)

    def __exit__(self, *_: object) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """SIGTERM and Ctrl-C end the process themselves: Python code would run after minutes of C++."""
    numbers = signal.SIGTERM, signal.SIGINT
    previous = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
