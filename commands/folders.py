"""Output folders, written completely or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bert_jax.errors import UserError


def check_output(output: Path, option: str = "--output") -> None:
    """Refuses an output folder that has files in it, is the current folder, or cannot be made."""
    if output.exists() and not (output.is_dir() and next(output.iterdir(), None) is None):
        raise UserError(f"{option} {output} exists and is not empty; give another, or delete it")
    if output.resolve() == Path.cwd():  # it would be replaced under the shell's feet
        raise UserError(f"{option} {output} is the current folder; give a new one")
    parent = next(folder for folder in output.resolve().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UserError(f"{option} {output} cannot be made: {parent} cannot be written to")


@contextlib.contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to `output` at the end, or deleted if anything fails.

    `output` must not exist or must be empty, see `check_output`.
    """
    output = output.resolve()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        aside = tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent)
    except OSError as error:
        raise UserError(f"{output} cannot be written ({error.strerror}); give another") from None
    with aside as private:
        folder = Path(private) / output.name  # not private, as the outer one is
        folder.mkdir()
        yield folder
        if output.exists():
            output.rmdir()
        folder.rename(output)
