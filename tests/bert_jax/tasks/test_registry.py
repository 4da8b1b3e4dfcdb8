import subprocess
import sys

from bert_jax.tasks.registry import TASKS, find_task

TASK = """from __future__ import annotations

import dataclasses
import typing

from bert_jax.tasks.classification.task import Classification


@dataclasses.dataclass(frozen=True)
class Mine(Classification):
    usage: typing.ClassVar[str] = "LINE ..."
    note: str = "a field"


print("executed")
TASK = Mine("mine")
"""


# They take seconds to import, which a mistyped option is not to wait for.
HEAVY = ["jax", "flax", "sklearn", "scipy", "nltk", "rouge_score", "tensorflow", "pandas"]
LISTED = f"""
import sys
from bert_jax.tasks.registry import TASKS
for task in TASKS.values():
    task.name, task.train, task.dev, task.column_options, task.command, task.usage
print(len(TASKS), [name for name in {HEAVY} if name in sys.modules])
"""


def test_what_is_said_of_all_tasks_needs_no_jax():
    run = subprocess.run([sys.executable, "-c", LISTED], capture_output=True, text=True, check=True)
    assert run.stdout == f"{len(TASKS)} []\n"


def test_a_task_file_is_a_module_like_others_and_runs_once(tmp_path, capsys):
    path = tmp_path / "json.py"  # must not take the place of the library's json
    path.write_text(TASK)
    task = find_task(str(path))
    assert (task.name, task.usage, task.note) == ("mine", "LINE ...", "a field")
    assert find_task(str(path)) is task
    assert capsys.readouterr().out == "executed\n"
    assert "tmp" not in str(sys.modules["json"].__file__)
