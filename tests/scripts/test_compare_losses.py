"""Two commits of a repository whose run_pretrain.py only plays."""

import subprocess

import pytest

from scripts import compare_losses

PREPARE = """
import pathlib, sys
(output,) = [word.split("=")[1] for word in sys.argv if word.startswith("--output=")]
pathlib.Path(output).mkdir()
pathlib.Path(output, "text").write_text("{name}")
"""
# Writes a row for each step, and the last without its end, as a run that is being watched does.
PRETRAIN = """
import json, pathlib, sys, time
options = dict(word[2:].split("=") for word in sys.argv[2:])
folder = pathlib.Path(options["work-dir"])
folder.mkdir()
text = pathlib.Path(options["corpus"], "text").read_text()
with open(folder / "metrics.jsonl", "w") as file:
    for step in range(1, {total} + 1):
        row = {{"step": step, "split": "train", "time": time.time(), "loss": 1 / step + len(text)}}
        if step > 4:
            row["gradient_norm"] = {factor} * step * float(options.get("scale", 1))
        row["recipe"] = sys.argv[1] + options["loop.log-every"]
        file.write(json.dumps(row) + "\\n")
        file.flush()
    file.write('{{"step"')
    file.flush()
    time.sleep({rest})
"""


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A commit for each of some versions, which are its tags."""
    folder = tmp_path / "repository"
    (folder / "data_pipeline").mkdir(parents=True)
    git(folder, "init", "-q")
    versions = {
        "old": {"factor": 0.1, "total": 8, "rest": 60},
        "new": {"factor": 0.1, "total": 9, "rest": 0},
        "wrong": {"factor": 0.10000000000000002, "total": 9, "rest": 0},
        "short": {"factor": 0.1, "total": 5, "rest": 0},
    }
    for name, values in versions.items():
        (folder / "run_pretrain.py").write_text(PRETRAIN.format(**values))
        (folder / "data_pipeline" / "prepare.py").write_text(PREPARE.format(name=name))
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", name)
        git(folder, "tag", name)
    monkeypatch.chdir(folder)
    yield folder
    worktrees = subprocess.check_output(["git", "worktree", "list"], text=True)
    assert len(worktrees.splitlines()) == 1


def test_commits_that_agree(repository, capsys):
    assert compare_losses.main(["old", "new", "--steps", "7"]) == 0
    assert "equal to the last bit: 7 steps" in capsys.readouterr().out


def test_commits_that_part(repository, tmp_path, capsys):
    (tmp_path / "text").write_text("given")
    arguments = ["new", "wrong", "--steps=7", f"--corpus={tmp_path}", "--recipe=tiny"]
    assert compare_losses.main([*arguments, "--", "--scale=1"]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert "step 5 (train)" in last
    assert last.count("->") == 1
    assert "gradient_norm 0.5 -> 0.500000000000000" in last
    assert compare_losses.main([*arguments, "--", "--scale=0"]) == 0


def test_a_run_that_fails_is_shown(repository):
    with pytest.raises(SystemExit, match="ended before step 7"):
        compare_losses.main(["new", "short", "--steps=7"])
