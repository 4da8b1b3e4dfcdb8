"""What SIGTERM and Ctrl-C do."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# A call into C that lasts for hours and never looks for signals, as the TPU compiler's does.
PROGRAM = """
import hashlib, signal
from bert_jax.parallel.stop_signal import ending_at_once
signal.signal(signal.SIGTERM, signal.default_int_handler)
with ending_at_once():
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_compilation_ends_at_once(number):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.wait(timeout=60) == -number
    process.stdout.close()
