"""The README's commands: what make does on a fresh machine, and the demo with a few steps."""

import re
import shutil
import subprocess
import sys

import pytest

from tests.processes import ROOT, environment

RECORDER = '#!/bin/sh\necho "$(basename "$0") $*" >> "$RECORD"\n'
MAKES_VENV = (
    RECORDER
    + 'case "$*" in *venv*) mkdir -p .venv/bin; cp "$STUB" .venv/bin/python; cp "$STUB" '
    + ".venv/bin/ruff; cp \"$STUB\" .venv/bin/mypy;; *'import sys'*) exit 0;; esac\n"
)


@pytest.fixture
def fresh_machine(tmp_path):
    """A folder with the project's build files and a PATH of programs that only take notes."""
    for name in ("Makefile", "setup.cfg", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "make", "basename", "mkdir", "cp", "touch"):
        (programs / name).symlink_to(shutil.which(name))
    (tmp_path / "stub").write_text(RECORDER)
    (programs / "python3").write_text(MAKES_VENV)
    for path in (tmp_path / "stub", programs / "python3"):
        path.chmod(0o755)
    return tmp_path


def make(folder, target):
    """What `make TARGET` calls, one line a program."""
    record = folder / "record"
    record.unlink(missing_ok=True)
    environment = {
        "PATH": str(folder / "programs"),
        "RECORD": str(record),
        "STUB": str(folder / "stub"),
    }
    subprocess.run(
        ["make", target], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return [line for line in record.read_text().splitlines() if "import sys" not in line]


@pytest.mark.parametrize(
    ("target", "runs"),
    [("pretrain", "run_pretrain.py"), ("test", "-m pytest -n auto --dist worksteal")],
)
@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_make_installs_pinned_versions_once_and_runs(fresh_machine, installer, target, runs):
    if installer == "uv":
        shutil.copy(fresh_machine / "programs" / "python3", fresh_machine / "programs" / "uv")
    first = make(fresh_machine, target)
    assert len(first) == 3
    assert "venv" in first[0]
    assert re.search(r"pip install .*--constraint constraints.txt .*\.\[dev\]", first[1])
    assert (installer == "uv") == first[1].startswith("uv ")
    assert first[2] == f"python {runs}"
    assert make(fresh_machine, target) == [f"python {runs}"]


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_make_parity_adds_its_packages_once(fresh_machine, installer):
    if installer == "uv":
        shutil.copy(fresh_machine / "programs" / "python3", fresh_machine / "programs" / "uv")
    make(fresh_machine, "test")
    *first, install, run = make(fresh_machine, "parity")
    assert first == (["uv pip install --python .venv/bin/python pip"] if installer == "uv" else [])
    assert re.search(r"python -m pip install .*--constraint constraints.txt .*,parity\]", install)
    assert (
        run
        == "python -m pytest tests/parity tests/test_trajectory.py tests/bert_jax/layers -n auto"
    )
    assert make(fresh_machine, "parity") == [run]


def test_every_requirement_is_pinned():
    """What setup.cfg asks for has an exact version in constraints.txt."""
    text = (ROOT / "setup.cfg").read_text()
    section = text[text.index("install_requires") :]
    wanted = re.findall(r"^    ([\w-]+)>=", section, flags=re.MULTILINE)
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert len(wanted) > 15
    assert {_canonical(name) for name in wanted} <= {_canonical(name) for name in pinned}


def _canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


# The scripts read every module that is installed; the test, each sixteenth of them.
DEMO = """
import runpy, sys
from data_pipeline.text import embedded
files = list(embedded.python_files())
embedded.python_files = lambda: iter(files[::16])
sys.argv[0] = "run_pretrain.py"
runpy.run_path(PROGRAM, run_name="__main__")
"""


def test_the_demo_runs_without_arguments_but_its_length(tmp_path):
    """Corpus, training, evaluation, curves and filled masks in an empty folder."""
    result = subprocess.run(
        [
            sys.executable, "-c", DEMO.replace("PROGRAM", repr(str(ROOT / "run_pretrain.py"))),
            "--phases.0.steps=20", "--phases.1.steps=5", "--optimizer.warmup-steps=5",
            "--loop.evaluate-every=10", "--loop.save-every=10",
        ],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=500,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    losses = re.search(
        r"masked-LM loss +([\d.]+) +([\d.]+) +unigram entropy ([\d.]+)", result.stdout
    )
    first, last, entropy = map(float, losses.groups())
    assert 8.5 < first < 9.5  # ln(8192) = 9.01
    assert last < first - 1
    assert 5 < entropy < 7
    assert result.stdout.count("->") == 3
    assert "Type next:" in result.stdout
    assert (tmp_path / "runs" / "demo" / "curves.png").stat().st_size > 10_000
    assert (tmp_path / "corpora" / "embedded" / "report.md").is_file()
