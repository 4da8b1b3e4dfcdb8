"""The tasks by name, and tasks in files of one's own."""

import difflib
import importlib.util
from pathlib import Path
from typing import Any

from bert_jax.errors import UserError
from configs.tasks.classification import Classification, MultiLabel, Regression
from configs.tasks.clue import CLUE
from configs.tasks.glue import GLUE
from configs.tasks.multiple_choice import MULTIPLE_CHOICE
from configs.tasks.question_answering import QUESTION_ANSWERING
from configs.tasks.ranking import RANKING
from configs.tasks.relations import RELATIONS
from configs.tasks.summarization import SUMMARIZATION
from configs.tasks.tagging import TAGGING
from configs.tasks.task import Task

TASKS: dict[str, Task[Any]] = {
    task.name: task
    for task in (
        Classification("classify"),
        MultiLabel("multilabel"),
        Regression("regress"),
        *GLUE,
        *CLUE,
        *MULTIPLE_CHOICE,
        *RANKING,
        *SUMMARIZATION,
        *QUESTION_ANSWERING,
        *TAGGING,
        *RELATIONS,
    )
}


def find_task(name: str) -> Task[Any]:
    """The task of a name, or the `TASK` of a Python file.

    Raises:
      UserError: there is no such task, or the file defines none.
    """
    if name.endswith(".py"):
        return _load(Path(name))
    if name not in TASKS:
        nearest = difflib.get_close_matches(name, TASKS, n=1, cutoff=0)[0]
        raise UserError(
            f"unknown task {name!r}; did you mean {nearest!r}? There are: {', '.join(TASKS)}; or "
            "give a Python file that defines TASK (docs/finetuning.md)"
        )
    return TASKS[name]


def _load(path: Path) -> Task[Any]:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError(f"the task file {path} is not there")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file raises
        raise UserError(f"the task file {path} fails: {type(error).__name__}: {error}") from error
    task = getattr(module, "TASK", None)
    if not isinstance(task, Task):
        raise UserError(
            f"the task file {path} defines no TASK, an object of a class such as "
            "configs.tasks.classification.Classification"
        )
    return task
