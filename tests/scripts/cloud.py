"""scripts/tpu.sh in a world whose gcloud only plays: fake_gcloud.py."""

import json
import os
import re
import subprocess

from tests.scripts.runs import ROOT

# accelerator type: hosts, image, zone
SLICES = {
    "v4-8": (1, "tpu-ubuntu2204-base", "us-central2-b"),
    "v5litepod-16": (4, "v2-alpha-tpuv5-lite", "us-west4-a"),
    "v5litepod-256": (64, "v2-alpha-tpuv5-lite", "us-west4-a"),
}


def write_program(path, text):
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def environment(folder, accelerator_type="v5litepod-16", **changes):
    hosts, _, zone = SLICES.get(accelerator_type, (0, "", "us-west4-a"))
    settings = {
        "PATH": f"{folder}/programs:{os.environ['PATH']}",
        "WORLD": str(folder),
        "HOSTS": str(hosts),
        "PROJECT": "my-project",
        "ZONE": zone,
        "BUCKET": "my-bucket",
        "ACCELERATOR_TYPE": accelerator_type,
        "CORPUS": "corpora/wikipedia",
        "POLL_SECONDS": "0",
        "PYTHON": "true",  # finds every option right
    } | changes
    return {name: value for name, value in settings.items() if value is not None}


def tpu(folder, *arguments, text="", **changes):
    return subprocess.run(
        [ROOT / "scripts" / "tpu.sh", *arguments],
        cwd=folder, env=environment(folder, **changes), input=text,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def dry_run(folder, *arguments, **changes):
    """The commands that --dry-run prints."""
    command, *rest = arguments
    result = tpu(folder, command, "--dry-run", *rest, **changes)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert not (folder / "calls").exists()
    return [line for line in result.stdout.splitlines() if not line.startswith("#")]


def calls(folder):
    """What gcloud was called with."""
    return [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


def steps(folder):
    """Those calls that change something, one word each."""
    names = []
    for call in calls(folder):
        words = " ".join(call)
        names += re.findall(r"queued-resources (create|delete)", words)
        names += re.findall(r"tpu_worker\.sh (install|copy-corpus|start|stop|save-log)", words)
    return names


def set_lives(folder, *lives):
    (folder / "lives.json").write_text(json.dumps(lives))
