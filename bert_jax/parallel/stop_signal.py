"""What SIGTERM and Ctrl-C do: training ends in order, compilation at once."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class StopSignal:
    """Turns the first SIGTERM or Ctrl-C in its `with` block into a flag; a second one acts."""

    def __init__(self) -> None:
        self.received: str | None = None  # the signal's name

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
    """Has SIGTERM and Ctrl-C end the process at once; Python would react after minutes of C++."""
    numbers = signal.SIGTERM, signal.SIGINT
    previous = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
