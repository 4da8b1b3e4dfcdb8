"""A profiler trace of a few steps, to be looked at in XProf or Perfetto."""

from collections.abc import Callable
from pathlib import Path

import jax

# Of the steps of this process: the first ones compile and fill the queues.
FIRST, LAST = 3, 7


class Profiler:
    """Traces steps FIRST to LAST of this process with `jax.profiler`, if asked to.

    Leaving its `with` block ends a trace that is still going on.

    Args:
      folder: where the trace goes; None for no trace.
      say: prints a line.
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
        """Counts a step; whether to toggle once the device is done with it."""
        self._steps += 1
        return self._folder is not None and self._steps in (FIRST - 1, LAST)

    def toggle(self) -> None:
        """Begins the trace, or ends it and says where it lies."""
        assert self._folder is not None
        if not self._tracing:
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # a call of every function would hide the steps
            jax.profiler.start_trace(self._folder, profiler_options=options)
        else:
            jax.profiler.stop_trace()
            self._say(
                f"trace of {self._steps - FIRST + 1} steps in {self._folder}; look at it with: "
                f"pip install xprof; xprof --logdir {self._folder}; or open its *.trace.json.gz at "
                "https://ui.perfetto.dev"
            )
        self._tracing = not self._tracing
