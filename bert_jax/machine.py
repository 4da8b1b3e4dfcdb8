"""Settings of the process that make a run quicker and change none of its numbers."""

import contextlib
import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import jax


def keep_freed_memory() -> None:
    """Has glibc reuse freed memory instead of handing it back to the kernel after every step.

    XLA's CPU backend allocates its temporary buffers anew in each step. A large allocation is a
    mapping of its own, whose pages the kernel zeroes each time: see docs/decisions/memory-reuse.md.
    """
    if jax.default_backend() != "cpu" or not sys.platform.startswith("linux"):
        return
    # M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD and M_TOP_PAD of malloc.h
    settings = {-8: 1, -4: 0, -1: 2**31 - 1, -2: 1 << 28}
    with contextlib.suppress(AttributeError):  # another C library than glibc
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in settings.items():
            mallopt(parameter, value)


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
