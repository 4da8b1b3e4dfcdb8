"""Four simulated devices, so that every test of the mesh runs on any machine.

The compiler leaves out what does not pay for tiny models: tests compile much and compute little.
"""

import os
import signal

# A shell starts jobs in the background with Ctrl-C ignored, and so would be the programs that tests
# start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

from jaxtyping import install_import_hook  # noqa: E402

# Shapes and dtypes of signatures are checked in tests alone. Not those of the mask, whose leaves
# jax exchanges for objects of its own, nor of the kernel's file, where it keeps references.
CHECKED = (
    "layers.attention",
    "layers.dropout",
    "layers.gelu",
    "layers.layer_norm",
    "layers.projection",
    "models",
    "objectives.losses",
)
install_import_hook([f"bert_jax.{name}" for name in CHECKED], "beartype.beartype")
