"""The tasks by name, and tasks in the user's own files."""

import difflib
import functools
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bert_jax.errors import UserError
from bert_jax.tasks.columns import ColumnOptions
from bert_jax.tasks.task import Task

# The kinds of tasks: modules whose TASKS can be named on the command line.
KINDS = (
    "bert_jax.tasks.classification.task",
    "bert_jax.tasks.classification.glue",
    "bert_jax.tasks.classification.clue",
    "bert_jax.tasks.multiple_choice.task",
    "bert_jax.tasks.ranking.task",
    "bert_jax.tasks.summarization.task",
    "bert_jax.tasks.question_answering.task",
    "bert_jax.tasks.tagging.task",
    "bert_jax.tasks.relations.task",
)


def tasks_of(kinds: Iterable[str]) -> dict[str, Task[Any]]:
    """The tasks of these kinds, by name."""
    modules = map(importlib.import_module, kinds)
    return {task.name: task for module in modules for task in module.TASKS}


TASKS = tasks_of(KINDS)


def commands() -> dict[str, Task[Any]]:
    """The commands of run_predict.py, each with the first task that it serves."""
    found: dict[str, Task[Any]] = {}
    for task in TASKS.values():
        found.setdefault(task.command, task)
    return found


def find_task(name: str) -> Task[Any]:
    """The task of a name, or the `TASK` of a Python file."""
    if name.endswith(".py"):
        return _load(Path(name))
    if name not in TASKS:
        nearest = difflib.get_close_matches(name, TASKS, n=1, cutoff=0)[0]
        raise UserError(
            f"unknown task {name!r}; did you mean {nearest!r}? There are: {', '.join(TASKS)}; or "
            "give a Python file that defines TASK (docs/finetuning.md)"
        )
    return TASKS[name]


def saved_task(saved: Mapping[str, Any]) -> Task[Any]:
    """The task of a fine-tuning's saved configuration, with its columns."""
    columns = saved["columns"]
    header = columns["header"] and tuple(columns["header"])
    return find_task(saved["task"]).with_columns(ColumnOptions(**columns | {"header": header}))


@functools.cache
def _load(path: Path) -> Task[Any]:
    spec = importlib.util.spec_from_file_location(f"task file {path}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError(
            f"the task {path} is not a file; give a Python file that defines TASK, or restore it"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there for what annotations name
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file raises
        hint = ""
        if isinstance(error, ImportError) and str(error.name).startswith("configs.tasks"):
            hint = "; the modules of configs.tasks are in bert_jax.tasks now, see CHANGELOG.md"
        raise UserError(
            f"the task file {path} fails: {type(error).__name__}: {error}{hint}"
        ) from error
    task = getattr(module, "TASK", None)
    if not isinstance(task, Task):
        raise UserError(
            f"the task file {path} defines no TASK, an object of a class such as "
            "bert_jax.tasks.classification.task.Classification"
        )
    if task.command not in commands():
        raise UserError(
            f"the command of the task in {path} is {task.command!r}, which run_predict.py does not "
            f"have; it must be one of {', '.join(commands())}"
        )
    return task
