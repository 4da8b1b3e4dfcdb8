"""Command lines from dataclasses: tyro parses, and a mistake is one line and exit code 2."""

import contextlib
import io
import re
import sys
from collections.abc import Sequence
from typing import NoReturn, TypeVar

import tyro

Config = TypeVar("Config")


def fail(message: object, code: int = 2) -> NoReturn:
    """Prints one line on standard error and exits; code 2 is a user's mistake."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


def parse(
    config_class: type[Config],
    arguments: Sequence[str],
    *,
    default: Config | None = None,
    program: str,
    description: str | None = None,
) -> Config:
    """Reads a dataclass from the command line.

    Args:
      config_class: the dataclass; its attributes' documentation becomes the help text.
      arguments: the words after the program's name.
      default: an instance whose values stand where no option is given.
      program: the program's name for the help text.
      description: shown at the top of the help text.

    Returns:
      The filled dataclass. Exits with code 2 and one line for an unknown option (with the nearest
      name) or a value of the wrong type, and with code 0 after `--help`.
    """
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            if default is None:
                return tyro.cli(config_class, args=arguments, prog=program, description=description)
            return tyro.cli(
                config_class,
                default=default,
                args=arguments,
                prog=program,
                description=description,
            )
    except SystemExit as exit_:
        if exit_.code in (0, None):
            raise
        fail(_one_line(messages.getvalue()))


def _one_line(box: str) -> str:
    """What tyro's boxed message says, without the box, as one line."""
    # Rules part the sections. The title stands in the border, or without a box in a section.
    text = "\n".join(line.strip("│ ") for line in box.splitlines())
    sections = re.split(r"^(?:[╭╰].*|[─-]{3,})$", text, flags=re.MULTILINE)
    words = [re.sub(r"\s+", " ", section).strip() for section in sections]
    words = [section for section in words if section]
    if "╭" not in box and len(words) > 1:
        del words[0]
    message = words[0] if words else "the options could not be read; try --help"
    nearest = next((section for section in words if section.startswith("Perhaps you meant")), "")
    match = re.search(r"--[\w.-]+", nearest)
    return message + (f"; did you mean {match.group()}?" if match else "")
