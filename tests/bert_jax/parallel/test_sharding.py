"""Every mesh gives the numbers of one device; meshes that do not fit are refused."""

import json
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from bert_jax.errors import UserError
from bert_jax.parallel.sharding import (
    MeshConfig,
    batch_shards,
    bytes_per_device,
    check_divides,
    described,
    host_rows,
    make_mesh,
    replicated,
)
from bert_jax.training.optimizer import make_optimizer
from bert_jax.training.step import abstract_state
from tests.bert_jax.parallel import mesh_runs
from tests.made_once import made_once
from tests.processes import ROOT, environment


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What `mesh_runs` computed on eight devices, by "mesh/packed/name"."""

    def make(folder):
        subprocess.run(
            [sys.executable, "-m", "tests.bert_jax.parallel.mesh_runs", str(folder / "runs.npz")],
            check=True,
            env=environment(devices=8),
            cwd=ROOT,
        )

    return dict(np.load(made_once(tmp_path_factory, "meshes", make) / "runs.npz"))


def test_a_mesh_in_words():
    assert described(make_mesh(MeshConfig(1), jax.devices()[:1])) == "1 cpu device"
    whole = make_mesh(MeshConfig(fsdp=2, tensor=2))
    assert described(whole) == "4 cpu devices: data 1 x fsdp 2 x tensor 2"
    kind = {"device_kind": "TPU v4", "platform": "tpu"}
    hosts = [SimpleNamespace(id=i, process_index=i // 2, **kind) for i in range(4)]
    grid = SimpleNamespace(devices=np.array(hosts), shape={"data": 4})
    assert described(grid) == "4 TPU v4 devices: data 4, 2 processes"


def test_what_each_device_holds():
    mesh = make_mesh(MeshConfig(fsdp=2, tensor=2))
    arrays = {"split": np.zeros((8, 6), np.float32), "whole": np.zeros(5, np.int16)}
    shardings = {
        "split": NamedSharding(mesh, PartitionSpec("fsdp", "tensor")),
        "whole": replicated(mesh),
    }
    assert bytes_per_device(arrays, shardings) == 8 * 6 * 4 // 4 + 5 * 2


@pytest.mark.parametrize(
    ("mesh", "packed"), [each for each in mesh_runs.TRAININGS if each[0] != "one"]
)
def test_every_mesh_equals_one_device(runs, mesh, packed):
    """With dropout and accumulation: losses, every gradient, every parameter after some steps."""
    prefix = f"one/{packed}/"
    names = [name.removeprefix(prefix) for name in runs if name.startswith(prefix)]
    assert len(names) > 50
    for name in names:
        found, expected = runs[f"{mesh}/{packed}/{name}"], runs[prefix + name]
        # A key's bias shifts all scores of a query alike: its gradient is 0 after softmax, and Adam
        # makes steps of the rounding that stands there.
        atol = 1e-4 if name.startswith("params") and name.endswith("['key']['bias']") else 1e-5
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=atol, err_msg=name)
    assert np.ptp(runs[prefix + "losses"]) > 1e-3


def test_parameters_are_drawn_alike_on_a_mesh_of_all_axes(runs):
    names = [name for name in runs if name.startswith("one/drawn")]
    assert len(names) > 20
    for name in names:
        np.testing.assert_array_equal(runs[name.replace("one", "all", 1)], runs[name], name)


@pytest.mark.parametrize("mesh", [name for name in mesh_runs.MESHES if name != "one"])
def test_the_kernel_gives_the_same_on_every_mesh(runs, mesh):
    """With dropout: context and the gradients of query, key and value."""
    for name in (f"kernel/{number}" for number in range(4)):
        np.testing.assert_allclose(
            runs[f"{mesh}/{name}"], runs[f"one/{name}"], rtol=1e-6, atol=1e-6, err_msg=name
        )


def test_fsdp_gathers_the_layer_in_use_only(runs):
    sizes = json.loads(str(runs["gathers"]))
    assert 0 < sizes["largest_gather"] <= sizes["layer_in_use"]
    # Only vectors are whole on each device.
    assert sizes["state_on_one_device"] < 0.25 * sizes["state"]


def fake_devices(hosts, per_host):
    """Devices in the order of a TPU slice, in which those of a host are not neighbours."""
    devices = [
        SimpleNamespace(process_index=host, id=local * hosts + host)
        for local in range(per_host)
        for host in range(hosts)
    ]
    return sorted(devices, key=lambda device: device.id)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (MeshConfig(), [(0, 4), (1, 4), (2, 4), (3, 4)]),
        (MeshConfig(4, fsdp=4), [(0, 4), (1, 4), (2, 4), (3, 4)]),
        (MeshConfig(fsdp=2, tensor=4), [(0, 4), (1, 4), (2, 4), (3, 4)]),
        # Two hosts hold parts of the same rows.
        (MeshConfig(tensor=8), [(0, 2), (0, 2), (1, 2), (1, 2)]),
        (MeshConfig(tensor=16), [(0, 1)] * 4),
    ],
)
def test_rows_of_a_host_are_those_of_its_devices(config, expected, monkeypatch):
    class Grid:
        """As much of a Mesh as is needed, which cannot be made of devices that do not exist."""

        def __init__(self, devices, axes, axis_types):
            self.devices = devices
            self.shape = dict(zip(axes, devices.shape, strict=True))

    monkeypatch.setattr("bert_jax.parallel.sharding.Mesh", Grid)
    mesh = make_mesh(config, fake_devices(hosts=4, per_host=4))
    assert [host_rows(mesh, process) for process in range(4)] == expected
    rows = 48
    for process, (index, count) in enumerate(expected):
        of_host = set(range(index * rows // count, (index + 1) * rows // count))
        size = rows // batch_shards(mesh)
        of_devices = {
            row
            for shard, devices in enumerate(mesh.devices.reshape(batch_shards(mesh), -1))
            for row in range(shard * size, (shard + 1) * size)
            if any(device.process_index == process for device in devices)
        }
        assert of_host == of_devices


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (MeshConfig(8), ["data=8", "needs 8 devices", "there are 4"]),
        (MeshConfig(2), ["needs 2 devices", "there are 4", "-1"]),
        (MeshConfig(tensor=3), ["multiple of 3", "there are 4"]),
        (MeshConfig(-1, fsdp=-1), ["mesh.data and mesh.fsdp"]),
        (MeshConfig(0), ["mesh.data is 0"]),
    ],
)
def test_meshes_that_do_not_fit_are_refused(config, words):
    with pytest.raises(UserError) as caught:
        make_mesh(config, jax.devices()[:4])
    assert all(word in str(caught.value) for word in words)


def test_axes_that_do_not_divide_are_refused(objective):
    optimizer = make_optimizer(mesh_runs.OPTIMIZER, lambda step: 1e-3)
    # The model is 8 wide and has 50 pieces.
    with pytest.raises(UserError, match=r"mesh.tensor 4 does not divide .*'vocab'.*embed.* 50"):
        abstract_state(objective, optimizer, make_mesh(MeshConfig(tensor=4)))
    abstract_state(objective, optimizer, make_mesh(MeshConfig(fsdp=4)))
    with pytest.raises(UserError, match=r"mesh.tensor 4 does not divide model.heads 2"):
        check_divides(make_mesh(MeshConfig(tensor=4)), "heads", 2, "model.heads")
