"""What several workers of a test run need, and one makes."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]
) -> Path:
    """The folder that `make` fills; the first worker that needs it makes it for all."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    with (root / f"{name}.made").open("a+") as made:
        fcntl.flock(made, fcntl.LOCK_EX)
        made.seek(0)
        if folder := made.read():
            return Path(folder)
        folder = tmp_path_factory.mktemp(name)
        make(folder)
        made.write(str(folder))
        return folder
