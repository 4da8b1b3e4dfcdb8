"""How one of several processes ends when another is gone: with a line that says so.

Nothing here imports jax: mistakes on the command line are handled here too.
"""

import contextlib
import ctypes
import os
import signal
import sys

GONE = (
    "another host, or the network to it, is gone; if that host's own output names a mistake, fix "
    "it; then start all of them again with the same command: the run continues from its last "
    "checkpoint"
)
# In the errors of collectives, barriers and remote calls when the other side does not answer.
_SIGNS_OF_A_LOST_HOST = (
    "Gloo",
    "NCCL",
    "Connection closed by peer",
    "Connection reset by peer",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "CoordinationService",
)


class Ending:
    """How this process ends should jax abort it; no message if one has been printed."""

    message: str | None = None
    code: int = 1
    prefix: str = ""


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _on_abort(number: int) -> None:
    """Prints the last message when jax finds another process dead, which makes it abort.

    It runs in one of jax's threads, not amid Python code. See docs/decisions/several-hosts.md.
    """
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    if Ending.message is not None:
        os.write(2, f"error: {Ending.prefix}{Ending.message}\n".encode())
    os._exit(Ending.code)


def heed_abort() -> None:
    """Has this process print its last message should jax abort it."""
    ctypes.CDLL(None).signal(signal.SIGABRT, _on_abort)


def ends_with(code: int) -> None:
    """Notes that this process is about to end and has printed why.

    The others hear of it when it leaves; if they do not leave too, jax aborts it.
    """
    Ending.message = None
    Ending.code = code


def is_lost_host(error: BaseException) -> bool:
    """Whether an exception says that another process did not answer."""
    return bool(prefix()) and any(sign in str(error) for sign in _SIGNS_OF_A_LOST_HOST)


def prefix() -> str:
    """ "process 1 of 4: " in a run of several processes, for messages; empty otherwise."""
    return Ending.prefix
