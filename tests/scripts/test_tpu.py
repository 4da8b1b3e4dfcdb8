"""The commands of scripts/tpu.sh, printed and played; the guide to them."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripts.cloud import SLICES, calls, dry_run, environment, set_lives, steps, tpu
from tests.scripts.runs import ROOT

SCRIPTS = sorted((ROOT / "scripts").glob("*.sh"))
GUIDE = ROOT / "docs" / "cloud_tpu.md"
WITHOUT_ARGUMENTS = [
    "setup", "upload", "create", "wait", "install", "copy-corpus", "status", "watch",
    "tensorboard", "stop", "collect", "delete", "delete-all",
]  # fmt: skip
COMMANDS = [[name] for name in WITHOUT_ARGUMENTS] + [["launch", "base"], ["supervise", "base"]]


def test_shellcheck_finds_nothing():
    shellcheck = shutil.which(
        "shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    )
    assert shellcheck, "shellcheck is in the extra `dev`"
    assert len(SCRIPTS) == 3
    result = subprocess.run(
        [shellcheck, *(path.relative_to(ROOT) for path in SCRIPTS), ".ci/run"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("accelerator_type", SLICES)
def test_dry_run_of_every_command(world, accelerator_type):
    hosts, image, zone = SLICES[accelerator_type]
    place = f"--project=my-project --zone={zone}"
    ssh = f"gcloud compute tpus tpu-vm ssh bert-jax {place}"
    every = f"{ssh} --quiet --worker=all '--command=bash bert_jax/scripts/tpu_worker.sh"
    account = "bert-jax-tpu@my-project.iam.gserviceaccount.com"
    queued = "gcloud compute tpus queued-resources"
    only = "'--filter=name~/queuedResources/bert-jax$' '--format=value(state.state)'"
    state = f"{queued} list {only} {place}"
    workers = f'{every} state || echo "worker $(hostname): not installed"\''
    delete = f"{queued} delete bert-jax --force --quiet {place}"
    left = [f"{queued} list {place}", f"gcloud compute tpus tpu-vm list {place}"]
    save_logs = f"{every} save-log my-bucket bert-jax'"
    multi_host = " --distributed.auto --distributed.timeout 600" if hosts > 1 else ""
    expected = {
        "setup": [
            "gcloud services enable compute.googleapis.com tpu.googleapis.com "
            "storage.googleapis.com iam.googleapis.com --project=my-project",
            "gcloud iam service-accounts create bert-jax-tpu --project=my-project",
            f"gcloud storage buckets create gs://my-bucket --project=my-project "
            f"--location={zone[:-2]} --uniform-bucket-level-access "
            "--enable-hierarchical-namespace --soft-delete-duration=0",
            "gcloud storage buckets add-iam-policy-binding gs://my-bucket "
            f"--member=serviceAccount:{account} --role=roles/storage.objectUser",
        ],
        "upload": [
            f"mkdir -p {ROOT}/build",
            f"git -C {ROOT} archive --format=tar.gz --output={ROOT}/build/bert_jax.tar.gz HEAD",
            f"gcloud storage cp {ROOT}/build/bert_jax.tar.gz gs://my-bucket/bert_jax.tar.gz",
            "gcloud storage rsync corpora/wikipedia gs://my-bucket/corpora/wikipedia --recursive",
        ],
        "create": [
            f"{queued} create bert-jax --node-id=bert-jax --accelerator-type={accelerator_type} "
            f"--runtime-version={image} --service-account={account} "
            f"--scopes=https://www.googleapis.com/auth/cloud-platform {place}"
        ],
        "wait": [state],
        "install": [
            f"{ssh} --quiet --worker=all '--command=rm -rf bert_jax && mkdir bert_jax && gcloud "
            "storage cat gs://my-bucket/bert_jax.tar.gz | tar -xz -C bert_jax && "
            "bash bert_jax/scripts/tpu_worker.sh install my-bucket'"
        ],
        "copy-corpus": [f"{every} copy-corpus my-bucket wikipedia'"],
        "launch": [f"{every} start my-bucket bert-jax wikipedia base{multi_host}'"],
        "status": [
            state,
            workers,
            f"{ssh} --quiet --worker=0 '--command=tail -n 2 bucket/runs/bert-jax/metrics.jsonl'",
        ],
        "watch": [f"{ssh} --quiet --worker=0 '--command=tail -n 20 -F train/log'"],
        "tensorboard": [
            f"{ssh} --worker=0 --ssh-flag=-t '--ssh-flag=-L 6006:localhost:6006' "
            "'--command=.local/bin/uv tool run --python 3.12 tensorboard --port 6006 "
            "--logdir bucket/runs/bert-jax/tensorboard'"
        ],
        "stop": [f"{every} stop'"],
        "collect": [
            save_logs,
            "mkdir -p runs/bert-jax/logs",
            "gcloud storage rsync gs://my-bucket/runs/bert-jax runs/bert-jax --recursive",
            "gcloud storage rsync gs://my-bucket/logs/bert-jax runs/bert-jax/logs --recursive",
        ],
        "delete": [delete, *left],
        "delete-all": [
            delete,
            *left,
            "gcloud storage rm gs://my-bucket --recursive",
            f"gcloud iam service-accounts delete {account} --project=my-project --quiet",
        ],
    }
    expected["supervise"] = [
        state,
        *expected["create"],
        delete,
        workers,
        "gcloud storage ls gs://my-bucket/runs/bert-jax/summary.json",
        *expected["install"],
        *expected["copy-corpus"],
        *expected["launch"],
        save_logs,
        delete,
    ]
    found = {
        command[0]: dry_run(world, *command, accelerator_type=accelerator_type)
        for command in COMMANDS
    }
    assert found == expected


def test_options_of_the_slice(world):
    changes = {"SPOT": "1", "VALID_UNTIL": "6h", "NAME": "n", "RUNTIME_VERSION": "v3"}
    (command,) = dry_run(world, "create", **changes)
    assert "create n --node-id=n " in command
    assert " --spot --valid-until-duration=6h " in command
    assert " --runtime-version=v3 " in command


def test_what_a_dry_run_prints_is_what_a_run_does(world):
    """Typed into a shell, the line calls gcloud with the very arguments of the run."""
    options = ["base", "--phases.0.steps", "7", "--note", 'it\'s a $HOME "test"', "--x=", ""]
    (line,) = dry_run(world, "launch", *options, RUN="two words")
    tpu(world, "create")
    assert tpu(world, "launch", *options, RUN="two words").returncode == 0
    subprocess.run(["bash", "-c", line], env=environment(world), check=True)
    _, called, typed = calls(world)
    assert shlex.split(line) == ["gcloud", *called]
    assert typed == called
    remote = shlex.split(called[-1].removeprefix("--command="))
    start = remote.index("start")
    arguments = ["my-bucket", "two words", "wikipedia", *options]
    arguments += ["--distributed.auto", "--distributed.timeout", "600"]
    assert remote[start + 1 :] == arguments


@pytest.mark.parametrize("command", ["launch", "supervise"])
@pytest.mark.parametrize("option", ["--dry-run", "--compile-for=v5e:4x4", "--learning_rates"])
def test_a_run_that_would_train_nothing_is_refused(world, command, option):
    result = tpu(world, command, "base", "--loop.save-every", "10", option)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: with {option.partition('=')[0].replace('_', '-')} ")
    assert f"scripts/tpu.sh {command} --dry-run base" in result.stderr
    assert not (world / "calls").exists()


@pytest.mark.parametrize("command", ["launch", "supervise"])
def test_the_options_of_a_run_are_checked_on_this_machine(world, command):
    result = tpu(world, command, "base", "--loop.save-every=0", PYTHON=sys.executable)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: loop.save_every is 0")
    assert not (world / "calls").exists()


def test_options_that_cannot_be_checked_on_this_machine(world):
    tpu(world, "create")
    result = tpu(world, "launch", "base", PYTHON=str(world / "none"))
    assert (result.returncode, result.stderr.count("note: the options are not checked")) == (0, 1)
    # The checkpoint lies on the workers.
    options = ["adapt", "--init-from", "/nowhere"]
    assert tpu(world, "launch", *options, PYTHON=sys.executable).returncode == 0
    assert steps(world) == ["create", "start", "start"]


@pytest.mark.parametrize("name", ["v5e-16", "v5litepod-16", "v5e:4x4"])
def test_names_of_one_slice(world, name):
    (command,) = dry_run(world, "create", accelerator_type=name)
    assert " --accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite " in command


def test_a_dry_run_says_that_there_is_no_corpus(world):
    result = tpu(world, "upload", "--dry-run", CORPUS="corpora/none")
    assert "# would be refused: CORPUS is corpora/none, which" in result.stdout


def test_gcloud_knows_every_command_and_option(world):
    """By the parser of a real gcloud, which looks nothing up and needs no account."""
    gcloud = shutil.which("gcloud")
    if not gcloud:
        pytest.skip("no gcloud here")
    settings = dict(os.environ) | {"CLOUDSDK_CONFIG": str(world / "config")}
    lines = {
        line
        for command in COMMANDS
        for line in dry_run(world, *command, SPOT="1", VALID_UNTIL="6h")
        if line.startswith("gcloud ")
    }
    file = world / "commands.json"
    file.write_text(json.dumps([{"command_string": line} for line in [*lines, "gcloud --wrong"]]))
    result = subprocess.run(
        [gcloud, "meta", "lint-gcloud-commands", "--commands-file", file],
        capture_output=True, text=True, env=settings,
    )  # fmt: skip
    if result.returncode:  # not in every installation, nor in every version
        pytest.skip("this gcloud cannot check commands")
    verdicts = json.loads(result.stdout)
    assert len(verdicts) == len(lines) + 1 > 20
    wrong = [verdict["command_string"] for verdict in verdicts if not verdict["success"]]
    assert wrong == ["gcloud --wrong"]


@pytest.mark.parametrize(
    ("arguments", "changes", "words"),
    [
        (["create"], {"PROJECT": None, "BUCKET": ""}, ["not set: PROJECT BUCKET"]),
        (["launch", "base"], {"CORPUS": None}, ["not set: CORPUS"]),
        (
            ["create"],
            {"accelerator_type": "v5e-17"},
            ["is v5e-17", "v4-8, v5e-16, v5e-256, v5"],
        ),
        (["creat"], {}, ["'creat'", "scripts/tpu.sh help"]),
        (["supervise"], {}, ["needs a recipe", "supervise base"]),
        (["create", "v4-8"], {}, ["takes no arguments, not 'v4-8'"]),
        (["upload"], {"CORPUS": "corpora/none"}, ["corpora/none", "no corpus.json"]),
        (["wait"], {}, ["no slice bert-jax in us-west4-a", "tpu.sh create"]),
        (["delete-all"], {"text": "my-bukcet\n"}, ["'my-bukcet' is not my-bucket", "nothing was"]),
    ],
)
def test_mistakes_are_one_line(world, arguments, changes, words):
    result = tpu(world, *arguments, **changes)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert all(word in line for word in words), line
    assert not (world / "calls").exists() or steps(world) == []


def test_without_gcloud(world):
    programs = world / "few"
    programs.mkdir()
    for name in ("bash", "env", "dirname", "basename", "sed", "date"):
        (programs / name).symlink_to(shutil.which(name))
    result = tpu(world, "create", PATH=str(programs))
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("error: gcloud is not installed")
    assert tpu(world, "create", "--dry-run", PATH=str(programs)).returncode == 0


def test_help_needs_no_settings(world):
    for arguments in ([], ["help"], ["--help"]):
        result = tpu(world, *arguments, PROJECT=None)
        assert result.returncode == 0
        for name, *_ in COMMANDS:
            assert re.search(rf"^  {name} ", result.stdout, re.MULTILINE), name


def test_setup_takes_what_is_there(world):
    (world / "bucket").write_text("True")
    (world / "account").touch()
    assert tpu(world, "setup").returncode == 0
    assert not [call for call in calls(world) if "create" in call]
    assert [call for call in calls(world) if "add-iam-policy-binding" in call]
    (world / "bucket").write_text("")
    result = tpu(world, "setup")
    assert result.returncode == 2
    assert "without hierarchical namespace" in result.stderr


def test_delete_all_deletes_all(world):
    assert tpu(world, "create").returncode == 0
    result = tpu(world, "delete-all", text="my-bucket\n")
    assert result.returncode == 0, result.stderr
    assert steps(world) == ["create", "delete"]
    assert ["storage", "rm", "gs://my-bucket", "--recursive"] in calls(world)
    result = tpu(world, "delete")  # and a second time, when nothing is there
    assert result.returncode == 0, result.stderr
    assert steps(world) == ["create", "delete"]


def test_wait_until_the_slice_is_there(world):
    set_lives(
        world, {"queue": ["WAITING_FOR_RESOURCES"] * 3 + ["PROVISIONING"]}, {"queue": ["FAILED"]}
    )
    tpu(world, "create")
    result = tpu(world, "wait")
    assert result.returncode == 0
    states = [line.split(": ")[-1] for line in result.stdout.splitlines()]
    assert states == ["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]
    tpu(world, "delete")
    tpu(world, "create")
    result = tpu(world, "wait")
    assert result.returncode == 2
    assert "bert-jax is FAILED" in result.stderr


def test_the_guide_names_commands_and_settings_that_exist():
    text = GUIDE.read_text()
    used = set(re.findall(r"scripts/tpu\.sh ([a-z-]+)", text)) - {"help"}
    assert used == {name for name, *_ in COMMANDS}
    script = (ROOT / "scripts" / "tpu.sh").read_text()
    for name in re.findall(r"\bexport ([A-Z_]+)=", text):
        assert f"#   {name}" in script or name in ("PROJECT", "ZONE"), name
    for accelerator_type, (_, _, zone) in SLICES.items():
        assert f"`{accelerator_type}`" in text
        assert zone in text
