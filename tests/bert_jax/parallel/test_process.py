"""What becomes of freed memory, and where compiled programs are kept."""

import os
import stat
import subprocess
import sys

import jax
import pytest

from bert_jax.parallel.process import keep_compiled_programs, keep_freed_memory
from tests.processes import ROOT

# Pages that the kernel had to give for four calls of a program with 64 MiB of temporary buffers.
FAULTS = """
import resource, jax, jax.numpy as jnp
from bert_jax.parallel.process import keep_freed_memory
{keep}
x = jnp.ones((4096, 8))
step = jax.jit(lambda x: jnp.tanh((x @ x.T) @ x).sum())
faults = []
for _ in range(24):
    step(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[-5])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_used_again():
    def faults(keep):
        command = [sys.executable, "-c", FAULTS.format(keep=keep)]
        environment = os.environ | {"JAX_PLATFORMS": "cpu"}
        found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return int(found.stdout)

    assert faults("keep_freed_memory()") < faults("") / 10


# MiB of a process with freed memory below memory in use: before it is handed back, and after.
RESIDENT = """
import numpy as np
from bert_jax.parallel.process import keep_freed_memory, return_freed_memory
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) // 256
keep_freed_memory()
first, second = np.ones(2**25), np.ones(2**20)
del first
print(resident())
return_freed_memory()
print(resident())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_handed_back_when_asked_for():
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", RESIDENT]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    before, after = map(int, found.stdout.split())
    assert before - after > 200


# Whether the scripts have asked jax for devices by the time that they set the process.
START = """
from jax._src import xla_bridge
from bert_jax.parallel import process
def stop():
    raise SystemExit(xla_bridge.backends_are_initialized())
process.keep_freed_memory = stop
import run_finetune, run_predict, run_pretrain
commands = (
    (run_pretrain, ["tiny", "--corpus=none"]),
    (run_finetune, []),
    (run_predict, ["tag", "--checkpoint=x", "a text"]),
)
for script, arguments in commands:
    try:
        script.main(arguments)
    except SystemExit as asked:
        print(script.__name__, asked)
"""


def test_the_scripts_set_it_before_jax_starts():
    command = [sys.executable, "-c", START]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    expected = "run_pretrain False\nrun_finetune False\nrun_predict False\n"
    assert found.stdout == expected, found.stderr


@pytest.fixture
def platforms():
    """Puts back the platforms that jax may use, and how it runs steps."""
    before = jax.config.jax_platforms
    ahead = jax.config.read("jax_cpu_enable_async_dispatch")
    yield
    jax.config.update("jax_platforms", before)
    jax.config.update("jax_cpu_enable_async_dispatch", ahead)


@pytest.mark.usefixtures("platforms")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_left_alone_where_there_may_be_an_accelerator(monkeypatch):
    class Called(Exception):
        pass

    def refuse(_):
        raise Called

    monkeypatch.setattr("ctypes.CDLL", refuse)
    with monkeypatch.context() as patch:
        patch.setattr("bert_jax.parallel.process.find_spec", lambda name: name == "libtpu" or None)
        jax.config.update("jax_platforms", None)
        keep_freed_memory()
        jax.config.update("jax_platforms", "cuda,cpu")
        keep_freed_memory()
    jax.config.update("jax_platforms", "cpu")
    with pytest.raises(Called):
        keep_freed_memory()


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An accelerator's process that keeps nothing yet; gives the folder it would choose."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path / "bert_jax" / "compilation"
    jax.config.update("jax_compilation_cache_dir", before)


def test_accelerators_keep_programs_in_the_users_cache(cache):
    keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir == str(cache)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_without_a_cache_folder_of_its_own_it_is_the_homes(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir == f"{tmp_path}/.cache/bert_jax/compilation"


def test_cpus_keep_nothing(cache, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir is None
    assert not cache.exists()


def test_what_the_user_chose_stays(cache, tmp_path):
    jax.config.update("jax_compilation_cache_dir", "elsewhere")
    keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir == "elsewhere"
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        keep_compiled_programs()
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    assert jax.config.jax_compilation_cache_dir is None
    assert not cache.exists()


def test_a_folder_that_cannot_be_made_is_one_line(cache, tmp_path, capsys):
    (tmp_path / "bert_jax").touch()
    keep_compiled_programs()
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{cache} cannot be created (" in line
    assert "JAX_COMPILATION_CACHE_DIR" in line
    assert jax.config.jax_compilation_cache_dir is None
