"""Command lines from dataclasses: tyro parses, and a mistake is one line and exit code 2."""

import contextlib
import difflib
import functools
import io
import re
import sys
from collections.abc import Sequence
from typing import NoReturn, TypeVar

import tyro

Config = TypeVar("Config")


def fail(message: object, code: int = 2) -> NoReturn:
    """Prints one line on standard error and exits; code 2 means a user's mistake."""
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
    """Reads a dataclass, whose attributes' documentation is the help text, from the command line.

    Exits with code 2 and one line for an unknown option (with the nearest name) or a value of the
    wrong type, and with code 0 after `--help`. `default` has the values of options not given.
    """
    given = {} if default is None else {"default": default}
    read = functools.partial(tyro.cli, config_class, prog=program, description=description, **given)
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            return read(args=arguments)
    except SystemExit as exit_:
        if exit_.code in (0, None):
            raise
    message = _one_line(messages.getvalue())
    # Something required is missing, too, where its name is mistyped.
    if re.match("Unrecognized options|Missing", message):
        help_text = io.StringIO()
        with contextlib.redirect_stdout(help_text), contextlib.suppress(SystemExit):
            read(args=["--help"])
        options = list(dict.fromkeys(re.findall(r"--[a-z][\w.-]*", help_text.getvalue())))
        typed = [word.split("=")[0] for word in arguments if word.startswith("--")]
        unknown = [word for word in typed if word.replace("_", "-") not in options]
        if unknown:
            message = f"unknown option {unknown[0]}"
            if nearest := _nearest(unknown[0], options):
                message += f"; did you mean {nearest}?"
    fail(message)


def _nearest(typed: str, options: Sequence[str]) -> str | None:
    """The option that is most likely meant: by its last part, its initials or its letters.

    >>> options = ["--phases.0.steps", "--phases.0.learning-rate", "--optimizer.learning-rate"]
    >>> _nearest("--learning-rate", options), _nearest("--optimizer.lr", options)
    ('--optimizer.learning-rate', '--optimizer.learning-rate')
    >>> _nearest("--steps", options), _nearest("--phases.0.stps", options)
    ('--phases.0.steps', '--phases.0.steps')
    >>> _nearest("--method", ["--method.rank", "--method.name"])
    '--method.name'
    >>> _nearest("--colour", options)
    """
    typed = typed.replace("_", "-")
    if f"{typed}.name" in options:
        return f"{typed}.name"
    # Options that belong to no numbered part come first.
    ordered = sorted(options, key=lambda option: bool(re.search(r"\.\d+\.", option)))
    last, *last_parts = (re.split(r"--|\.", option)[-1] for option in (typed, *ordered))
    initials = ["".join(word[:1] for word in part.split("-")) for part in last_parts]
    for names in (last_parts, initials if len(last) > 1 else []):
        if last in names:
            return ordered[names.index(last)]
    return next(iter(difflib.get_close_matches(typed, ordered, n=1, cutoff=0.75)), None)


def _one_line(box: str) -> str:
    """The text of tyro's boxed message, as one line."""
    # Rules separate the sections. The title is in the border or, without a box, in a section.
    text = "\n".join(line.strip("│ ") for line in box.splitlines())
    sections = re.split(r"^(?:[╭╰].*|[─-]{3,})$", text, flags=re.MULTILINE)
    words = [re.sub(r"\s+", " ", section).strip() for section in sections]
    words = [section for section in words if section]
    if "╭" not in box and len(words) > 1:
        del words[0]
    message = words[0] if words else "the options could not be read; try --help"
    if found := re.search(r"Error parsing (--[\w.-]+): no type matching .*?\{\{(.*?)\}", message):
        option, first = found.groups()
        return f"{option} takes two words: {option} {first} VALUE"
    for python, wanted in (
        (r"invalid literal for int\(\) with base 10", "a whole number"),
        ("could not convert string to float", "a number"),
    ):
        if found := re.search(rf"(--[\w.-]+): .*{python}: ('.*')", message):
            return f"{found.group(1)} is {found.group(2)}; it must be {wanted}"
    return message
