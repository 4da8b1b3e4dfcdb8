"""Records the options of all commands: `python -m tests.golden.command_lines`.

An option that appears, goes or has another default is then seen in review.
"""

import contextlib
import importlib
import io
import os
import re
import signal
from pathlib import Path
from unittest import mock

from bert_jax.tasks.registry import TASKS, commands
from commands.convert.command_line import COMMANDS as CONVERSIONS
from commands.predict.command_line import FILL_MASK
from configs.recipes import RECIPES

RECORD = Path(__file__).with_name("command_lines.txt")
# What is typed before --help, and the module whose `main` reads it. The recipes share their
# options; so do all commands of run_predict.py but fill-mask.
COMMANDS = {
    "run_pretrain.py": "run_pretrain",
    "run_finetune.py": "run_finetune",
    "run_predict.py fill-mask": "run_predict",
    "run_predict.py classify": "run_predict",
    "run_convert.py tf1": "run_convert",
    "run_convert.py from-hf": "run_convert",
    "run_convert.py to-hf": "run_convert",
    "run_convert.py merge": "run_convert",
    "python -m data_pipeline.prepare": "data_pipeline.prepare",
}


def command_lines() -> str:
    """The text of the record: a section for each command, a line for each option."""
    sections = []
    for command, module in COMMANDS.items():
        words = [] if module == "data_pipeline.prepare" else command.split()[1:]
        lines = options(help_text(module, [*words, "--help"]))
        sections.append("\n".join([f"[{command}]", *lines]))
    for command, names in {
        "run_pretrain.py RECIPE": RECIPES,
        "run_finetune.py TASK": TASKS,
        "run_predict.py COMMAND": (FILL_MASK, *commands()),
        "run_convert.py COMMAND": CONVERSIONS,
    }.items():
        sections.append("\n".join([f"[{command}]", *names]))
    return "\n\n".join(sections) + "\n"


def help_text(module: str, arguments: list[str]) -> str:
    """What a program prints for its arguments on a terminal of 80 columns."""
    text, handler = io.StringIO(), signal.getsignal(signal.SIGTERM)
    with (
        mock.patch.dict(os.environ, COLUMNS="80"),
        contextlib.redirect_stdout(text),
        contextlib.suppress(SystemExit),
    ):
        importlib.import_module(module).main(arguments)
    signal.signal(signal.SIGTERM, handler)
    return text.getvalue()


def options(text: str) -> list[str]:
    """The options of a help text, "--name TYPE = default", in its order."""
    found: list[list[str]] = [[]]
    for line in map(str.strip, text.splitlines()):
        head, *rest = re.split(" {2,}", line, maxsplit=1)
        if re.match(r"--?[a-z]|\[*STR\b", head):
            found.append([head, *rest])
        elif line and found[-1]:
            found[-1].append(line)
        else:  # the end of a section
            found.append([])
    lines = []
    for head, *rest in filter(None, found):
        default = re.search(r"\(default: (.*)\)$", " ".join(rest))
        if head.startswith("--processes"):  # as many as there are CPUs
            default = None
        lines.append(f"{head} = {default[1]}" if default else head)
    return lines


if __name__ == "__main__":
    RECORD.write_text(command_lines(), encoding="utf-8")
