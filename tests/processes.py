"""What the processes that tests start have in their environment."""

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent
DEVICES = "--xla_force_host_platform_device_count"


def environment(devices: int = 1) -> dict[str, str]:
    """This process's variables, the project to import from, and a number of simulated devices."""
    flags = [flag for flag in os.environ["XLA_FLAGS"].split() if not flag.startswith(DEVICES)]
    changes = {"XLA_FLAGS": " ".join([*flags, f"{DEVICES}={devices}"]), "PYTHONPATH": str(ROOT)}
    return os.environ | changes
