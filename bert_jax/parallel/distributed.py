"""Several processes, usually one on each host, that train one model together.

Every process runs the same program on its own devices; process 0 alone writes logs and small files.
"""

import contextlib
import ctypes
import dataclasses
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from bert_jax.errors import UserError

SHORTEST_TIMEOUT = 10
GONE = (
    "another host, or the network to it, is gone; if that host's own output names a mistake, mend "
    "it; then start all of them again with the same command: the run continues from its last "
    "checkpoint"
)
# What collectives, barriers and remote calls say when the other side does not answer.
_SIGNS_OF_A_LOST_HOST = (
    "Gloo",
    "NCCL",
    "Connection closed by peer",
    "Connection reset by peer",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "CoordinationService",
)


@dataclasses.dataclass(frozen=True)
class DistributedConfig:
    """How the processes of a run find each other; without any of it, the run has one process.

    Attributes:
      auto: take coordinator, processes and process from the environment: Cloud TPU VMs, Slurm,
        Open MPI, Kubernetes.
      coordinator: HOST:PORT of process 0, where it listens and the others find it.
      processes: how many there are.
      process: which of them this is, from 0 on.
      timeout: seconds to wait for the others at the start, and after the last sign of life of one
        that may be dead.
    """

    auto: bool = False
    coordinator: str = ""
    processes: int | None = None
    process: int | None = None
    timeout: int = 120

    def validate(self) -> None:
        """Raises UserError where options are missing, out of range or contradict each other."""
        explicit = {
            "coordinator": self.coordinator or None,
            "processes": self.processes,
            "process": self.process,
        }
        given = [f"--distributed.{name}" for name, value in explicit.items() if value is not None]
        lacking = [f"--distributed.{name}" for name, value in explicit.items() if value is None]
        if self.auto and given:
            raise UserError(
                f"--distributed.auto takes everything from the environment; leave out "
                f"{', '.join(given)}, or --distributed.auto"
            )
        if given and lacking:
            raise UserError(f"{', '.join(given)} needs {' and '.join(lacking)} as well")
        if self.timeout < SHORTEST_TIMEOUT:
            raise UserError(
                f"distributed.timeout is {self.timeout}; it must be at least {SHORTEST_TIMEOUT} "
                "seconds"
            )
        if not given:
            return
        assert self.processes is not None
        assert self.process is not None
        if self.processes < 1:
            raise UserError(f"distributed.processes is {self.processes}; it must be positive")
        if not 0 <= self.process < self.processes:
            raise UserError(
                f"distributed.process is {self.process}; it must be within 0 and "
                f"{self.processes - 1}, as distributed.processes is {self.processes}"
            )
        self.address()

    def address(self) -> tuple[str, int]:
        """Host and port of the coordinator.

        Raises:
          UserError: it is not HOST:PORT.
        """
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise UserError(
                f"distributed.coordinator is {self.coordinator!r}; it must be HOST:PORT, such as "
                "10.0.0.1:8476"
            )
        return host.strip("[]"), int(port)


def initialize(config: DistributedConfig) -> None:
    """Joins the other processes; to be called before anything touches a device.

    Does nothing for a run of one process.

    Raises:
      UserError: the environment names no cluster, or the coordinator's name does not resolve, or it
        cannot be reached.
    """
    if not config.auto and not config.coordinator:
        return
    deadline = time.monotonic() + config.timeout
    if config.coordinator:
        _check_name(config)
    if config.process:
        _wait_for_coordinator(config, deadline)
    where = config.coordinator or "the one that the environment names"
    _Ending.message = (
        f"the processes of the run did not all meet within {config.timeout} s at the coordinator "
        f"{where}; start all of them, each with its own number, and see that its port is open "
        "(--distributed.timeout waits longer)"
    )
    _Ending.code = 2
    ctypes.CDLL(None).signal(signal.SIGABRT, _on_abort)
    # It would take SIGTERM from the loop, which saves and ends on all hosts by itself.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator_address=config.coordinator or None,
            num_processes=config.processes,
            process_id=config.process,
            initialization_timeout=max(1, round(deadline - time.monotonic())),
            heartbeat_timeout_seconds=config.timeout,
            shutdown_timeout_seconds=config.timeout,
        )
    except (ValueError, RuntimeError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if config.auto:
            raise UserError(
                f"--distributed.auto: the environment does not tell the processes of the run "
                f"({reason}); give --distributed.coordinator, --distributed.processes and "
                "--distributed.process"
            ) from None
        raise UserError(
            f"the coordinator {config.coordinator} cannot be used ({reason}); give another "
            "--distributed.coordinator"
        ) from None
    _Ending.message = GONE
    _Ending.code = 1
    if jax.process_count() > 1:
        _Ending.prefix = f"process {jax.process_index()} of {jax.process_count()}: "


def _check_name(config: DistributedConfig) -> None:
    """Refuses a name of no host; that of a host that is just starting may take seconds."""
    host, port = config.address()
    deadline = time.monotonic() + min(SHORTEST_TIMEOUT, config.timeout)
    while True:
        try:
            socket.getaddrinfo(host, port)
            return
        except (OSError, UnicodeError) as error:
            if time.monotonic() + 0.5 > deadline:
                reason = getattr(error, "strerror", None) or error
                raise UserError(
                    f"distributed.coordinator is {config.coordinator}, but the name {host} does "
                    f"not resolve here ({reason}); correct it or give the address of process 0's "
                    "host"
                ) from None
            time.sleep(0.5)


def _wait_for_coordinator(config: DistributedConfig, deadline: float) -> None:
    """Returns when somebody listens there; jax itself would end the process with a stack trace."""
    while True:
        try:
            socket.create_connection(
                config.address(), timeout=max(0.1, deadline - time.monotonic())
            ).close()
            return
        except OSError as error:
            if time.monotonic() + 0.5 > deadline:
                raise UserError(
                    f"the coordinator {config.coordinator} cannot be reached within "
                    f"{config.timeout} s ({error.strerror or error}); start process 0 on that "
                    "host, see that the port is open, or correct --distributed.coordinator"
                ) from None
            time.sleep(0.5)


class _Ending:
    """How this process ends should jax abort it; no message where one has been printed."""

    message: str | None = None
    code: int = 1
    prefix: str = ""


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _on_abort(number: int) -> None:
    """The last word where jax's client finds another process dead: it can only abort.

    See docs/decisions/several-hosts.md. It runs in a thread of jax, not amid Python code.
    """
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    if _Ending.message is not None:
        os.write(2, f"error: {_Ending.prefix}{_Ending.message}\n".encode())
    os._exit(_Ending.code)


def ends_with(code: int) -> None:
    """Says that this process is about to end and has said why.

    The others are told when it leaves, and should they not leave too, jax aborts it.
    """
    _Ending.message = None
    _Ending.code = code


def is_lost_host(error: BaseException) -> bool:
    """Whether an exception says that another process did not answer."""
    return bool(prefix()) and any(sign in str(error) for sign in _SIGNS_OF_A_LOST_HOST)


def prefix() -> str:
    """ "process 1 of 4: " in a run of several processes, for messages; empty otherwise."""
    return _Ending.prefix


def is_first() -> bool:
    """Whether this is the process that writes logs and small files."""
    return jax.process_index() == 0


def on_any(flag: bool) -> bool:
    """Whether the flag is set on any process; all have to ask at the same place."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
    """Ends all processes where one of them fails in the `with` block, with its exit code.

    Nothing within may wait for the other processes.

    Raises:
      UserError: another process failed; it has said why.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    if on_any(failure is not None):
        raise failure or UserError("another process cannot start; its own output says why")


def of_first(number: int) -> int:
    """The number that process 0 has; all have to ask at the same place."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def gathered(tree: Any) -> Any:
    """The whole arrays of a tree as numpy arrays, on every process."""
    return multihost_utils.process_allgather(tree, tiled=True)
