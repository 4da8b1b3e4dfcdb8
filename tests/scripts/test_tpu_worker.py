"""What a worker of a slice does, done here with a shell script in place of the training."""

import contextlib
import os
import re
import signal
import subprocess
import time

import pytest

from tests.scripts.cloud import write_program
from tests.scripts.runs import ROOT


@pytest.fixture
def worker(tmp_path):
    """A home folder like a TPU VM's, in which the training is a shell script."""
    home = tmp_path / "home"
    (home / "venv" / "bin").mkdir(parents=True)
    (home / "bert_jax").mkdir()
    (home / ".local" / "bin").mkdir(parents=True)
    programs = tmp_path / "programs"
    programs.mkdir()
    note = f'echo "$(basename "$0") $*" >> {tmp_path}/notes; '
    for name in ("sudo", "curl", "gcloud", "gcsfuse", "python3"):
        write_program(programs / name, note)
    write_program(programs / "lsb_release", "echo jammy")
    write_program(programs / "mountpoint", f"[ -f {tmp_path}/is_mounted ]")
    write_program(home / ".local" / "bin" / "uv", note)
    write_program(
        home / "venv" / "bin" / "python",
        note + '[ "$1" != -c ] || exit 0\n[ "$2" != wrong ] || exit 2\n'
        'trap "echo saved; exit 0" TERM; echo "platforms $JAX_PLATFORMS"\n'
        "while true; do sleep 0.05; done",
    )
    yield tmp_path
    pid = home / "train" / "pid"
    if pid.exists():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(pid.read_text()), signal.SIGKILL)


def on_worker(folder, *arguments, **changes):
    """What tpu_worker.sh prints, without the name of the worker."""
    path = f"{folder}/programs:{os.environ['PATH']}"
    settings = {"HOME": f"{folder}/home", "PATH": path, "STOP_SECONDS": "20"} | changes
    result = subprocess.run(
        [ROOT / "scripts" / "tpu_worker.sh", *arguments],
        cwd=folder / "home", env=settings, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return [line.split(": ", 1)[1] for line in result.stdout.splitlines() if ": " in line]


def notes(folder):
    return (folder / "notes").read_text().splitlines()


def wait_for_state(folder, state):
    deadline = time.monotonic() + 60
    while on_worker(folder, "state") != [state]:
        assert time.monotonic() < deadline, on_worker(folder, "state")
        time.sleep(0.05)


def wait_for_line(path, text):
    deadline = time.monotonic() + 60
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_worker_trains_until_it_is_stopped(worker):
    log = worker / "home" / "train" / "log"
    assert on_worker(worker, "state") == ["idle"]
    assert on_worker(worker, "start", "my-bucket", "run", "wiki", "base", "--x", "a b") == [
        "started"
    ]
    assert on_worker(worker, "state") == ["running"]
    wait_for_line(log, "platforms tpu,cpu")
    home = worker / "home"
    mount, training = notes(worker)
    assert mount.startswith("gcsfuse ")
    assert mount.endswith(f" my-bucket {home}/bucket")
    assert training == (
        f"python run_pretrain.py base --x a b --corpus {home}/corpora/wiki "
        f"--work-dir {home}/bucket/runs/run"
    )
    assert on_worker(worker, "stop") == ["stopped"]
    assert log.read_text().endswith("saved\n")
    assert on_worker(worker, "state") == ["ended 0"]
    assert on_worker(worker, "stop") == []
    on_worker(worker, "save-log", "my-bucket", "run")
    assert re.search(
        r"gcloud storage cp \S+/train/log gs://my-bucket/logs/run/\S+\.log", notes(worker)[-1]
    )


def test_a_second_start_ends_the_first(worker):
    (worker / "is_mounted").touch()
    pid = worker / "home" / "train" / "pid"
    on_worker(worker, "start", "my-bucket", "run", "wiki", "base")
    wait_for_line(worker / "home" / "train" / "log", "platforms")
    first = pid.read_text()
    assert on_worker(worker, "start", "my-bucket", "run", "wiki", "base") == ["stopped", "started"]
    assert pid.read_text() != first
    assert "saved\n" in (worker / "home" / "train" / "log").read_text()
    assert not [note for note in notes(worker) if note.startswith("gcsfuse")]  # it is mounted


def test_what_became_of_the_training(worker):
    on_worker(worker, "start", "my-bucket", "run", "wiki", "wrong")
    wait_for_state(worker, "ended 2")
    on_worker(worker, "start", "my-bucket", "run", "wiki", "base")
    assert on_worker(worker, "state") == ["running"]
    os.killpg(int((worker / "home" / "train" / "pid").read_text()), signal.SIGKILL)
    wait_for_state(worker, "killed")


def test_a_training_that_does_not_end_is_killed(worker):
    write_program(
        worker / "home" / "venv" / "bin" / "python",
        'trap "" TERM; echo deaf; while true; do sleep 0.05; done',
    )
    on_worker(worker, "start", "my-bucket", "run", "wiki", "base")
    wait_for_line(worker / "home" / "train" / "log", "deaf")
    (line,) = on_worker(worker, "stop", STOP_SECONDS="1")
    assert line.startswith("killed")
    wait_for_state(worker, "killed")


def test_installing_on_a_worker(worker):
    home = worker / "home"
    assert on_worker(worker, "install", "my-bucket") == ["installed"]
    mount, *rest = notes(worker)
    assert mount == (
        "gcsfuse --implicit-dirs --enable-streaming-writes=false --metadata-cache-ttl-secs=0 "
        f"--metadata-cache-negative-ttl-secs=0 my-bucket {home}/bucket"
    )
    assert rest == [
        "python3 -m pip install --user --quiet uv",
        f"uv venv --quiet --allow-existing --python 3.12 {home}/venv",
        f"uv pip install --quiet --python {home}/venv/bin/python --constraint constraints.txt "
        "--editable .[tpu]",
        "python -c import bert_jax, libtpu",
    ]


def test_the_corpus_on_a_worker(worker):
    (line,) = on_worker(worker, "copy-corpus", "my-bucket", "wiki")
    assert line.endswith("in ~/corpora/wiki")
    assert notes(worker) == [
        f"gcloud storage rsync gs://my-bucket/corpora/wiki {worker}/home/corpora/wiki --recursive"
    ]
