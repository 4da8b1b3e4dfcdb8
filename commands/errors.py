"""Runs the scripts: a user's mistake ends them with one line instead of a traceback."""

import contextlib
import errno
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from bert_jax import __version__
from bert_jax.errors import NonFiniteLoss, UserError
from bert_jax.parallel import ending
from data_pipeline.command_line import fail
from data_pipeline.errors import DataError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run_script(main: Callable[[Sequence[str]], None]) -> None:
    """Runs the `main` of a script with its command-line arguments."""
    # Importing and tracing make many objects that stay; looking among them for cycles after every
    # 700 new ones, as Python does, takes a fifth of the time of the imports.
    gc.set_threshold(50_000)
    with user_errors():
        if sys.argv[1:] == ["--version"]:
            print(f"bert_jax {__version__}")
        else:
            main(sys.argv[1:])


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turns a mistake, a full disk or Ctrl-C into one line; programming errors keep a traceback.

    Exit codes: 2 for a mistake or a full disk, 1 if the loss is not finite or another host is lost,
    130 after Ctrl-C or SIGTERM. The training loop handles these two itself: it saves, code 0.
    """
    try:
        with _quiet_threads():
            try:
                yield
                sys.stdout.flush()
            except BrokenPipeError:  # "| head" has seen enough
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                sys.exit(0)
            except Exception as error:
                _fail(error)
                raise
            except KeyboardInterrupt:
                fail("interrupted; the same command starts or continues", code=130)
    except SystemExit as end:
        ending.ends_with(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise
    except BaseException:
        ending.ends_with(1)
        raise


def _fail(error: Exception) -> None:
    """Prints one line and exits; returns if the error is a bug."""
    who = ending.prefix()
    if isinstance(error, (UserError, DataError, NonFiniteLoss)):
        fail(f"{who}{error}", code=1 if isinstance(error, NonFiniteLoss) else 2)
    if "RESOURCE_EXHAUSTED" in str(error):  # XLA's word
        fail(
            f"{who}out of memory; lower batch_size (in pre-training phases.N.batch_size), or train "
            "each batch in parts: raise accumulation_steps (loop.accumulation_steps; --dry-run "
            "shows what a step needs)"
        )
    if _disk_is_full(error):
        _end_at_once(
            f"{who}the disk is full, or a limit on files is reached; what was complete is kept: "
            "free some space and repeat the command",
            code=2,
        )
    if ending.is_lost_host(error):
        _end_at_once(f"{who}{ending.GONE}", code=1)


def _end_at_once(message: str, code: int) -> NoReturn:
    """Exits without cleaning up: that would write, or wait for other hosts, and fail again."""
    ending.ends_with(code)
    sys.stdout.flush()
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(code)


@contextlib.contextmanager
def _quiet_threads() -> Iterator[None]:
    """SIGTERM acts like Ctrl-C, and only the main thread reports a full disk."""
    hooks = threading.excepthook, sys.unraisablehook, signal.getsignal(signal.SIGTERM)
    threading.excepthook = _quiet_about_a_full_disk
    sys.unraisablehook = _quiet_about_closed_loops
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook, _ = hooks
        signal.signal(signal.SIGTERM, hooks[2])


def _quiet_about_a_full_disk(event: threading.ExceptHookArgs) -> None:
    if not _disk_is_full(event.exc_value):
        threading.__excepthook__(event)


def _quiet_about_closed_loops(event: "sys.UnraisableHookArgs") -> None:
    """TensorStore's threads report this for each file that they could not write."""
    if str(event.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(event)


def _disk_is_full(error: BaseException | None) -> bool:
    """Whether the error or one of its causes is a full disk; Orbax wraps it in its own errors."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            return True
        if any(os.strerror(number) in str(error) for number in _NO_SPACE):
            return True
        error = error.__cause__ or error.__context__
    return False
