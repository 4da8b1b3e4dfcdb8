"""How one of several processes ends when another is gone: with a line that says so.

It imports no jax, as mistakes on the command line end here too.
"""

import contextlib
import ctypes
import os
import signal
import sys

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


class Ending:
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
    if Ending.message is not None:
        os.write(2, f"error: {Ending.prefix}{Ending.message}\n".encode())
    os._exit(Ending.code)


def heed_abort() -> None:
    """Has this process say its last word should jax abort it."""
    ctypes.CDLL(None).signal(signal.SIGABRT, _on_abort)


def ends_with(code: int) -> None:
    """Says that this process is about to end and has said why.

    The others are told when it leaves, and should they not leave too, jax aborts it.
    """
    Ending.message = None
    Ending.code = code


def is_lost_host(error: BaseException) -> bool:
    """Whether an exception says that another process did not answer."""
    return bool(prefix()) and any(sign in str(error) for sign in _SIGNS_OF_A_LOST_HOST)


def prefix() -> str:
    """ "process 1 of 4: " in a run of several processes, for messages; empty otherwise."""
    return Ending.prefix
