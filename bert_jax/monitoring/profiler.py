"""A profiler trace of a few steps, to view in XProf or Perfetto."""

from collections.abc import Callable
from pathlib import Path

import jax

# Steps of this process; the ones before them compile and fill the queues.
FIRST, LAST = 3, 7


class Profiler:
    """Traces steps FIRST to LAST of this process with `jax.profiler`, unless `folder` is None.

    Leaving its `with` block ends a trace that is still running. `say` prints a line.
    """

    def __init__(self, folder: Path | None, say: Callable[[str], None]):
        self._folder = folder
        self._say = say
        self._steps = 0
        self._tracing = False

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(self, *_: object) -> None:
        if self._tracing:
            self.toggle()

    def due(self) -> bool:
        """Counts a step; returns whether to toggle the trace once the device has finished it."""
        self._steps += 1
        return self._folder is not None and self._steps in (FIRST - 1, LAST)

    def toggle(self) -> None:
        """Starts the trace, or ends it and says where it is."""
        assert self._folder is not None
        if not self._tracing:
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # a trace of every function call would hide the steps
            jax.profiler.start_trace(self._folder, profiler_options=options)
        else:
            jax.profiler.stop_trace()
            self._say(
                f"trace of {self._steps - FIRST + 1} steps in {self._folder}; view it with: "
                f"pip install xprof; xprof --logdir {self._folder}; or open its *.trace.json.gz at "
                "https://ui.perfetto.dev"
            )
        self._tracing = not self._tracing
