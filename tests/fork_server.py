"""Runs of scripts in processes that need not import jax and TensorFlow again.

A server, a process of its own that has imported them and started neither, forks for each run.
"""

import atexit
import functools
import multiprocessing
import multiprocessing.util
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.processes import environment

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["tests.preloaded"])
_running: set["Run"] = set()


@functools.cache
def _outputs() -> tempfile.TemporaryDirectory[str]:
    """Where the runs of this process write what they print."""
    return tempfile.TemporaryDirectory(prefix="bert_jax-output-")


@atexit.register  # after multiprocessing's own, which waits for all that run, and so called before
def _end_all() -> None:
    for run in list(_running):
        run.kill()
        run.communicate()


class Run:
    """A script that runs, with those methods of `subprocess.Popen` that tests need.

    Args:
      script: the file.
      arguments: its command line.
      devices: how many are simulated.
      variables: more of the environment.
      largest_file: in bytes; no file may grow beyond.
    """

    def __init__(
        self,
        script: Path,
        arguments: Sequence[object],
        devices: int = 1,
        variables: Mapping[str, str] | None = None,
        largest_file: int | None = None,
    ):
        descriptor, name = tempfile.mkstemp(dir=_outputs().name)
        os.close(descriptor)
        self.output = Path(name)
        self._process = _server.Process(
            target=_run,
            args=(
                [str(script), *map(str, arguments)],
                environment(devices) | dict(variables or {}),
                name,
                largest_file,
            ),
        )
        self._process.start()
        _running.add(self)

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        return self._process.exitcode

    @property
    def returncode(self) -> int | None:
        """What `poll` gives."""
        return self.poll()

    def send_signal(self, number: int) -> None:
        """Sends a signal, if the run has not ended."""
        if self._process.is_alive():
            os.kill(self._process.pid, number)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for the end; what it wrote, both streams as one, and an empty text."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self.kill()
            raise subprocess.TimeoutExpired(str(self.output), timeout or 0)
        _running.discard(self)
        return self.output.read_text(), ""


def _run(
    command: list[str], variables: Mapping[str, str], output: str, largest_file: int | None
) -> None:
    assert "tests.preloaded" in sys.modules, "the server has imported nothing"
    for name in {name for name in os.environ | variables if name.startswith("JAX_")}:
        assert os.environ.get(name) == variables.get(name), f"jax has read {name} already"
    os.environ.clear()
    os.environ.update(variables)
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    # As `no_pictures` does. Not at the top: the server imports first and slowly.
    from bert_jax.monitoring import plots

    plots._save = lambda figure, path: path.touch()
    sys.argv = command
    try:
        runpy.run_path(command[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # as an interpreter does, but not a forked process
