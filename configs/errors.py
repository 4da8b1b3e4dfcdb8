"""How the scripts end when something is wrong: one line and an exit code, never a traceback."""

import contextlib
import errno
from collections.abc import Iterator

from bert_jax.errors import UserError
from bert_jax.loop import NonFiniteLoss
from data_pipeline.command_line import fail
from data_pipeline.errors import DataError


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turns a mistake, a full disk or Ctrl-C into one line; programming errors keep a traceback.

    Exit codes: 2 for a mistake and a full disk, 1 where the loss is no longer finite, 130 after
    Ctrl-C.
    """
    try:
        yield
    except (UserError, DataError) as error:
        fail(error)
    except NonFiniteLoss as error:
        fail(error, code=1)
    except KeyboardInterrupt:
        fail("interrupted; the same command continues", code=130)
    except Exception as error:
        if not _disk_is_full(error):
            raise
        fail(
            f"the disk is full ({error}); what was complete is kept: free some space and type the "
            "same command again".replace("\n", " ")
        )


def _disk_is_full(error: BaseException | None) -> bool:
    """Whether the error, or what caused it, is a full disk; Orbax wraps it in errors of its own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
