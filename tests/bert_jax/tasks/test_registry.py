import sys

from bert_jax.tasks.registry import find_task

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


def test_a_task_file_is_a_module_like_others_and_runs_once(tmp_path, capsys):
    path = tmp_path / "json.py"  # must not take the place of the library's json
    path.write_text(TASK)
    task = find_task(str(path))
    assert (task.name, task.usage, task.note) == ("mine", "LINE ...", "a field")
    assert find_task(str(path)) is task
    assert capsys.readouterr().out == "executed\n"
    assert "tmp" not in str(sys.modules["json"].__file__)
