"""Processes that find each other, agree, and end when one of them is gone."""

import socket
import subprocess
import sys
import time

import pytest

from bert_jax.errors import UserError
from bert_jax.parallel.distributed import DistributedConfig, initialize
from tests.fork_server import Run
from tests.processes import ROOT

PROGRAM = """
import sys, time
import jax
import numpy as np
from bert_jax.parallel import distributed, ending
from bert_jax.errors import UserError
from bert_jax.parallel.sharding import batch_sharding, make_mesh, place
from commands.errors import user_errors

coordinator, process, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3]
with user_errors():
    explicit = {"coordinator": coordinator, "processes": 2, "process": process}
    distributed.initialize(distributed.DistributedConfig(
        timeout=TIMEOUT, **{"auto": True} if coordinator == "auto" else explicit
    ))
    print(ending.prefix(), distributed.is_first())
    print(distributed.on_any(process == 1), distributed.on_any(False))
    print(distributed.of_first(process))
    rows = np.full((1, 3), process)
    split = jax.make_array_from_process_local_data(batch_sharding(make_mesh()), rows)
    print(distributed.gathered({"rows": split})["rows"].tolist())
    # Sets of names are in another order in each process.
    names = {f"name {number}": np.full((2, number), float(number)) for number in range(1, 30)}
    zeros = jax.device_put(jax.tree.map(np.zeros_like, names), batch_sharding(make_mesh()))
    placed = {name: place(names[name], zeros[name]) for name in set(names)}
    print(float(sum(part.sum() for part in distributed.gathered(placed).values())))
    distributed.on_any(False)
    print("ready", flush=True)
    if mode == "mistake" and process == 1:
        raise UserError("this host has no corpus")
    if mode == "together":
        with distributed.all_or_none():
            if process == 1:
                raise UserError("this host has no corpus")
    if mode == "mistakes":
        raise UserError("no host has a corpus")
    if mode != "nothing":
        distributed.on_any(False)
        time.sleep(mode == "sleep" and 600)
"""


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def start_both(folder, mode, timeout=30, variables=None):
    """Starts both; with the environment of a cluster, which they find each other from."""
    address = f"127.0.0.1:{free_port()}" if variables is None else "auto"
    program = folder / "program.py"
    program.write_text(PROGRAM.replace("TIMEOUT", str(timeout)))
    return [
        Run(program, [address, process, mode], variables=variables and variables(process))
        for process in range(2)
    ]


def wait_until_ready(process):
    while "\nready\n" not in process.output.read_text():
        assert process.poll() is None, process.output.read_text()
        time.sleep(0.01)


def last_line(process):
    output, _ = process.communicate(timeout=300)
    return output.strip().splitlines()[-1]


def slurm(process):
    """What srun sets for two tasks; jax makes the port of the job's number."""
    numbers = {"JOB_ID": 1234567, "NTASKS": 2, "PROCID": process, "LOCALID": process}
    return {f"SLURM_{name}": str(number) for name, number in numbers.items()} | {
        "SLURM_STEP_NODELIST": "localhost"
    }


def lines_of(process):
    """What a process prints to its end, but for what Gloo says of its connections."""
    output, _ = process.communicate(timeout=300)
    return [line for line in output.splitlines() if "Gloo" not in line]


def agreed(number):
    """The lines of PROGRAM up to "ready"."""
    return [
        f"process {number} of 2:  {number == 0}",
        "True False",
        "0",
        "[[0, 0, 0], [1, 1, 1]]",
        str(float(sum(2 * number**2 for number in range(30)))),
        "ready",
    ]


def test_what_the_processes_of_a_cluster_tell_each_other(tmp_path):
    for number, process in enumerate(start_both(tmp_path, "nothing", variables=slurm)):
        assert lines_of(process) == agreed(number)
        assert process.returncode == 0


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_ends_the_other_with_one_clear_line(tmp_path, victim):
    processes = start_both(tmp_path, "sleep", timeout=15)
    for process in processes:
        wait_until_ready(process)
    processes[victim].kill()
    survivor = processes[1 - victim]
    assert last_line(survivor).startswith(f"error: process {1 - victim} of 2: another host")
    assert survivor.returncode == 1
    processes[victim].communicate()


def test_a_mistake_on_one_host_ends_both(tmp_path):
    first, second = start_both(tmp_path, "mistake", timeout=15)
    output, _ = second.communicate(timeout=300)
    assert "error: process 1 of 2: this host has no corpus\n" in output
    assert "another host" not in output
    assert second.returncode == 2
    assert last_line(first).startswith("error: process 0 of 2: another host")
    assert first.returncode == 1


def test_a_mistake_on_one_host_where_all_look_ends_both_without_a_stack_trace(tmp_path):
    errors = [
        "error: process 0 of 2: another process cannot start; its own output says why",
        "error: process 1 of 2: this host has no corpus",
    ]
    for number, process in enumerate(start_both(tmp_path, "together")):
        assert lines_of(process) == [*agreed(number), errors[number]]
        assert process.returncode == 2


def test_a_mistake_on_all_hosts_is_all_they_say(tmp_path):
    for number, process in enumerate(start_both(tmp_path, "mistakes")):
        assert last_line(process) == f"error: process {number} of 2: no host has a corpus"
        assert process.returncode == 2


def test_a_coordinator_that_cannot_be_reached():
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(UserError, match=f"{address} cannot be reached within 2 s .*refused"):
        initialize(DistributedConfig(coordinator=address, processes=2, process=1, timeout=2))


@pytest.mark.parametrize("process", [0, 1])
def test_a_coordinator_whose_name_is_unknown(process):
    config = DistributedConfig(coordinator="no..host:1", processes=2, process=process, timeout=0)
    with pytest.raises(UserError, match=r"the name no\.\.host does not resolve here"):
        initialize(config)


def test_processes_that_do_not_come():
    config = "DistributedConfig(coordinator='{}', processes=2, process=0, timeout=3)"
    address = f"127.0.0.1:{free_port()}"
    program = f"from bert_jax.parallel.distributed import *; initialize({config.format(address)})"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("error: not all processes of the run ")
    for words in (f"coordinator {address} within 3 s", "--distributed.timeout"):
        assert words in line
    assert result.returncode == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"processes": 2}, "--distributed.processes needs --distributed.coordinator and --dist"),
        ({"coordinator": "a:1", "processes": 2}, "needs --distributed.process as well"),
        ({"coordinator": "a:1", "processes": 2, "process": 2}, "process is 2; .* between 0 and 1"),
        ({"coordinator": "a:1", "processes": 2, "process": -1}, "process is -1; .* between 0 and"),
        ({"coordinator": "a", "processes": 2, "process": 0}, "'a'; it must be HOST:PORT"),
        ({"coordinator": "a:b", "processes": 2, "process": 0}, "'a:b'; it must be HOST:PORT"),
        ({"coordinator": "a:70000", "processes": 2, "process": 0}, "it must be HOST:PORT"),
        ({"auto": True, "process": 0}, "leave out --distributed.process, or --distributed.auto"),
    ],
)
def test_options_that_do_not_fit(options, words):
    with pytest.raises(UserError, match=words):
        DistributedConfig(**options).validate()


@pytest.mark.parametrize(
    "options",
    [{}, {"auto": True}, {"coordinator": "[::1]:8476", "processes": 2, "process": 1}],
)
def test_options_that_fit(options):
    DistributedConfig(**options).validate()
