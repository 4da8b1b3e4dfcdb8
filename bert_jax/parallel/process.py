"""Settings of the process that make a run quicker and change none of its numbers."""

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
    """Has glibc reuse freed memory instead of handing it back to the kernel after every step.

    XLA's CPU backend allocates its temporary buffers anew in each step. A large allocation is a
    mapping of its own, whose pages the kernel zeroes each time: see docs/decisions/memory-reuse.md.

    Call it before jax makes its first array or is asked for its devices. It runs steps in the
    thread that calls them, then: in the heaps of other threads large allocations are mappings
    whatever is set. Where jax could use an accelerator, nothing is set; JAX_PLATFORMS=cpu says that
    there is none.
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
    """Hands back what is free now, as after an evaluation, whose arrays are of no further use.

    Without it a process whose freed memory is kept grows by about a checkpoint with each of them:
    what was free is used in pieces, and the next large array finds no place in it.
    """
    if sys.platform.startswith("linux"):
        with contextlib.suppress(AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)


def _has_only_cpus() -> bool:
    """Whether jax was told to use CPUs or has no way to anything else; starts no backend."""
    if chosen := jax.config.jax_platforms:  # type: ignore[attr-defined]
        return chosen == "cpu"
    plugins = any(find_spec(name) for name in ("jax_plugins", "libtpu"))
    plugins = plugins or bool(entry_points(group="jax_plugins"))
    return not plugins and "TPU_LIBRARY_PATH" not in os.environ


def keep_compiled_programs() -> None:
    """Has jax keep what it compiles for accelerators in the user's cache folder.

    JAX_COMPILATION_CACHE_DIR names another folder, and turns it on for CPUs too;
    JAX_ENABLE_COMPILATION_CACHE=false turns it off. See docs/decisions/compilation-cache.md.
    """
    config: Any = jax.config  # its attributes are not declared
    chosen = config.jax_compilation_cache_dir or not config.jax_enable_compilation_cache
    if chosen or jax.default_backend() == "cpu":
        return
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = caches / "bert_jax" / "compilation"
    try:
        # Whoever can write there can have this process run programs of theirs.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        print(
            f"{folder} cannot be made ({error.strerror}), so the next start compiles again; name "
            "another folder in JAX_COMPILATION_CACHE_DIR",
            file=sys.stderr,
        )
        return
    config.update("jax_compilation_cache_dir", str(folder))
