"""Several processes, usually one per host, that train one model together.

All run the same program, each on its own devices; only process 0 writes logs and small files.
"""

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from bert_jax.errors import UserError
from bert_jax.parallel.config import DistributedConfig
from bert_jax.parallel.ending import GONE, Ending, heed_abort

_NAME_SECONDS = 10  # until the name of a host that is just starting must resolve


def initialize(config: DistributedConfig) -> None:
    """Joins the other processes, if there are any; call it before anything touches a device."""
    if not config.auto and not config.coordinator:
        return
    deadline = time.monotonic() + config.timeout
    if config.coordinator:
        _check_name(config)
    if config.process:
        _wait_for_coordinator(config, deadline)
    where = config.coordinator or "that the environment names"
    Ending.message = (
        f"not all processes of the run reached the coordinator {where} within {config.timeout} s; "
        "start all of them, each with its own number, and make sure that its port is open "
        "(--distributed.timeout waits longer)"
    )
    Ending.code = 2
    heed_abort()
    # That service would intercept SIGTERM, on which the loop itself saves and ends on all hosts.
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
                f"--distributed.auto: the environment does not describe the processes of the run "
                f"({reason}); give --distributed.coordinator, --distributed.processes and "
                "--distributed.process"
            ) from None
        raise UserError(
            f"the coordinator {config.coordinator} cannot be used ({reason}); give another "
            "--distributed.coordinator"
        ) from None
    Ending.message = GONE
    Ending.code = 1
    if jax.process_count() > 1:
        Ending.prefix = f"process {jax.process_index()} of {jax.process_count()}: "


def _check_name(config: DistributedConfig) -> None:
    """Refuses a host name that does not resolve, which that of a starting host does only later."""
    host, port = config.address()
    deadline = time.monotonic() + min(_NAME_SECONDS, config.timeout)
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
    """Returns when it listens; jax itself would end the process with a stack trace."""
    while True:
        try:
            seconds = max(0.1, deadline - time.monotonic())
            socket.create_connection(config.address(), timeout=seconds).close()
            return
        except OSError as error:
            if time.monotonic() + 0.5 > deadline:
                raise UserError(
                    f"the coordinator {config.coordinator} cannot be reached within "
                    f"{config.timeout} s ({error.strerror or error}); start process 0 on that "
                    "host, open its port, or correct --distributed.coordinator"
                ) from None
            time.sleep(0.5)


def is_first() -> bool:
    """Whether this is the process that writes logs and small files."""
    return jax.process_index() == 0


def on_any(flag: bool) -> bool:
    """Whether the flag is set on any process; all must call it at the same point."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
    """If the `with` block fails on one process, ends all of them, with its exit code.

    Nothing within may wait for the other processes.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    if on_any(failure is not None):
        raise failure or UserError("another process cannot start; its own output says why")


def of_first(number: int) -> int:
    """The number that process 0 has; all must call it at the same point."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def gathered(tree: Any) -> Any:
    """The whole arrays of a tree as numpy arrays, on every process."""
    return multihost_utils.process_allgather(tree, tiled=True)
