"""One run by two processes, killed, stopped, and continued by one and by four."""

import re
import shutil
import signal

import pytest

from bert_jax.monitoring.tracker import read_metrics
from bert_jax.training.saved_params import saved_steps
from tests.bert_jax.parallel.test_distributed import free_port
from tests.scripts.runs import finish, options, rows, start, wait_for

CHANGES = {
    "phases.0.steps": 40,
    "phases.1.steps": 10,
    "phases.1.sequence-length": 24,  # one shape, one compilation
    "loop.log-every": 1,
    "loop.evaluate-every": 25,
    "loop.save-every": 10,
    "optimizer.learning-rate": 1e-3,  # so that rounding does not grow
}
TOTAL = 50


def start_hosts(arguments, processes, devices):
    """Starts each process with its own devices; they meet over loopback."""
    found_at = f"127.0.0.1:{free_port()}"
    several = [
        f"--distributed.coordinator={found_at}",
        f"--distributed.processes={processes}",
        "--distributed.timeout=30",
    ]
    return [
        start([*arguments, *several, f"--distributed.process={process}"], devices=devices)
        for process in range(processes)
    ]


def outputs(hosts):
    return [host.communicate(timeout=600)[0] for host in hosts]


def _figures(row):
    return {name: value for name, value in row.items() if name != "split"}


def assert_same_line(found, expected):
    """The same rows, but for the order in which devices add up."""
    assert len(found) == len(expected)
    for row, other in zip(found, expected, strict=True):
        assert row["split"] == other["split"]
        assert _figures(row) == pytest.approx(_figures(other), rel=1e-5, abs=1e-6)


def test_hosts_come_and_go_and_the_loss_line_stays(corpus, tmp_path):
    one = start(options(corpus, tmp_path / "one", CHANGES), devices=4)
    assert one.communicate(timeout=600)[0]
    assert one.returncode == 0
    expected = rows(tmp_path / "one")
    assert expected[-1]["step"] == TOTAL

    # Checkpoints in parts: every parameter is split over both processes.
    work_dir = tmp_path / "run"
    split = options(corpus, work_dir, CHANGES | {"mesh.fsdp": 4})
    hosts = start_hosts(split, processes=2, devices=2)
    wait_for(hosts[0], lambda: saved_steps(work_dir))
    hosts[1].kill()
    first, _ = outputs(hosts)
    assert first.strip().splitlines()[-1].startswith("error: process 0 of 2: another host")
    assert hosts[0].returncode == 1
    metrics = work_dir / "metrics.jsonl"
    saved, left = saved_steps(work_dir)[-1], read_metrics(metrics)[-1]["step"]
    assert 0 < saved <= left < TOTAL - 20, "too late for the rest of the test"

    # Both again; a signal to one stops both after the same step.
    hosts = start_hosts(split, processes=2, devices=2)
    wait_for(hosts[0], lambda: read_metrics(metrics)[-1]["step"] > left)
    hosts[1].send_signal(signal.SIGTERM)
    first, second = outputs(hosts)
    assert [host.returncode for host in hosts] == [0, 0], first + second
    assert f"continuing from the checkpoint of step {saved}" in first
    stopped = saved_steps(work_dir)[-1]
    assert f"signal on another host: saved step {stopped}; the same command" in first
    # Gloo's threads write "[Gloo] Rank 3 is connected to 3 peer ranks. ..." in pieces.
    said = [line for line in second.splitlines() if not re.search("Gloo|peer ranks", line)]
    assert not said, "one host speaks"
    assert saved < stopped < TOTAL
    found = rows(work_dir)
    assert found[-1]["step"] == stopped
    assert_same_line(found, [row for row in expected if row["step"] <= stopped])

    # Other numbers of hosts and other meshes.
    shutil.copytree(work_dir, tmp_path / "four")
    hosts = start_hosts(
        options(corpus, tmp_path / "four", CHANGES | {"mesh.fsdp": 2, "mesh.tensor": 2}), 4, 1
    )
    output = outputs(hosts)
    assert [host.returncode for host in hosts] == [0] * 4, output
    assert_same_line(rows(tmp_path / "four"), expected)
    code, output = finish(options(corpus, work_dir, CHANGES))
    assert code == 0, output
    assert_same_line(rows(work_dir), expected)


def test_hosts_that_do_not_share_the_work_folder_or_the_options(corpus, tmp_path):
    arguments = options(corpus, tmp_path / "run", CHANGES)
    found_at = f"127.0.0.1:{free_port()}"
    several = ["--distributed.processes=2", f"--distributed.coordinator={found_at}"]
    hosts = [
        start(
            [
                *arguments,
                *several,
                "--distributed.timeout=30",
                f"--distributed.process={process}",
                f"--seed={process}",
            ]
        )
        for process in range(2)
    ]
    first, second = outputs(hosts)
    assert first.endswith(
        "error: process 0 of 2: another process cannot start; its own output says why\n"
    )
    assert "error: process 1 of 2: this process was started with other options" in second
    assert "seed: 0 -> 1" in second
    assert "stack trace" not in first + second
    assert [host.returncode for host in hosts] == [2, 2]
