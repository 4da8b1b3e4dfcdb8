"""Settings of the process that make a run faster and do not change its numbers."""

import contextlib
import ctypes
import os
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax


def keep_freed_memory() -> None:
    """Has glibc reuse freed memory instead of returning it to the kernel after every step.

    XLA's CPU backend allocates its temporary buffers anew in each step; large ones are mappings,
    whose pages the kernel zeroes each time: see docs/decisions/memory-reuse.md. Steps then run in
    the thread that calls them, as the settings do not apply to the heaps of other threads.

    Call it before jax makes its first array or lists its devices. If jax could use an accelerator,
    nothing is set; JAX_PLATFORMS=cpu rules one out.
    """
    if not (_has_only_cpus() and sys.platform.startswith("linux")):
        return
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    # M_MMAP_MAX, M_TRIM_THRESHOLD and M_TOP_PAD of malloc.h
    settings = {-4: 0, -1: 2**31 - 1, -2: 1 << 28}
    with contextlib.suppress(AttributeError):  # another C library than glibc
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in settings.items():
            mallopt(parameter, value)


def return_freed_memory() -> None:
    """Returns free memory to the kernel, as after an evaluation, whose arrays are not needed again.

    Otherwise the memory that is kept becomes fragmented, and the process grows by about the size of
    a checkpoint with each evaluation.
    """
    if sys.platform.startswith("linux"):
        with contextlib.suppress(AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)


def _has_only_cpus() -> bool:
    """Whether jax can use, or was told to use, only CPUs; starts no backend."""
    if chosen := jax.config.jax_platforms:  # type: ignore[attr-defined]
        return chosen == "cpu"
    plugins = any(find_spec(name) for name in ("jax_plugins", "libtpu"))
    plugins = plugins or bool(entry_points(group="jax_plugins"))
    return not plugins and "TPU_LIBRARY_PATH" not in os.environ


def keep_compiled_programs() -> None:
    """Has jax keep what it compiles for accelerators in the user's cache folder.

    JAX_COMPILATION_CACHE_DIR names another folder and turns this on for CPUs too;
    JAX_ENABLE_COMPILATION_CACHE=false turns it off. See docs/decisions/compilation-cache.md.
    """
    config: Any = jax.config  # its attributes are not declared
    chosen = config.jax_compilation_cache_dir or not config.jax_enable_compilation_cache
    if chosen or jax.default_backend() == "cpu":
        return
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = caches / "bert_jax" / "compilation"
    try:
        # Whoever can write there could have this process run their programs.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        print(
            f"{folder} cannot be created ({error.strerror}), so the next start compiles again; "
            "name another folder in JAX_COMPILATION_CACHE_DIR",
            file=sys.stderr,
        )
        return
    config.update("jax_compilation_cache_dir", str(folder))
