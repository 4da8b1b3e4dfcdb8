"""Four simulated devices, so that every test of the mesh runs on any machine.

The compiler leaves out what does not pay for tiny models: tests compile much and compute little.
What is compiled once is read by all workers of a run and by the processes that its tests start.
"""

import atexit
import gc
import os
import shutil
import signal
import tempfile

gc.set_threshold(50_000)  # as the scripts have it

# A shell starts jobs in the background with Ctrl-C ignored, and so would be the programs that tests
# start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
quick = os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") == "1"
flags = "--xla_force_host_platform_device_count=4"
if quick:  # the older emitters of loops take half of the compiler's time, one module a tenth less
    flags += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
os.environ.setdefault("XLA_FLAGS", flags)

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # in the workers it is
    programs = tempfile.mkdtemp(prefix="bert_jax-compiled-")
    atexit.register(shutil.rmtree, programs, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = programs
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import pytest  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

# Shapes and dtypes of signatures are checked in tests alone. Not those of the mask, whose leaves
# jax exchanges for objects of its own, nor of the kernel's file, where it keeps references.
CHECKED = (
    "layers.attention",
    "layers.dropout",
    "layers.gelu",
    "layers.layer_norm",
    "layers.projection",
    "models.adapters",
    "models.bert",
    "models.pretraining_heads",
    "models.task_heads",
    "objectives.losses",
)
install_import_hook([f"bert_jax.{name}" for name in CHECKED], "beartype.beartype")


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers():
    """One more than there are cores, as tests wait for other processes and for clocks."""
    return (yield) + 1


def pytest_collection_finish():
    """What is imported stays, and need not be looked through for garbage again and again."""
    gc.freeze()


@pytest.fixture(scope="module")
def no_pictures():
    """Runs write empty pictures: each takes a second, and only those who look at one need it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bert_jax.monitoring.plots._save", lambda figure, path: path.touch())
        yield
