"""The options of all commands are those that were recorded, and are read before jax is there."""

import subprocess
import sys

import pytest

from tests.golden.command_lines import RECORD, command_lines

SLOW = ("jax", "flax", "optax", "orbax", "tensorflow", "tensorstore", "sklearn", "scipy")
SLOW += ("matplotlib", "tensorboardX")
MISTAKES = {
    "run_pretrain": (["tiny", "--corpus=x", "--phases.0.steps=0"], "phases.0.steps is 0"),
    "run_finetune": (["sst2", "--init-from=x", "--data=y", "--columns.group=z"], "no use for"),
    "run_predict": (["tag", "--checkpoint=x", "--batch-size=0", "a text"], "batch_size is 0"),
    "run_convert": (["from-hf", "--input=/none", "--output=y"], "--input /none"),
}
PROGRAM = """
import sys
from bert_jax.errors import UserError
from {script} import main
for arguments in (["--help"], ["--mistyped"], {arguments}):
    try:
        main(arguments)
    except (SystemExit, UserError) as end:
        print(end)
print("imported:", *(name for name in {slow} if name in sys.modules))
"""


def test_options_and_defaults_are_the_recorded_ones():
    """If the change is meant: `python -m tests.golden.command_lines`."""
    assert command_lines() == RECORD.read_text(encoding="utf-8")


@pytest.mark.parametrize("script", MISTAKES)
def test_mistakes_on_the_command_line_are_told_without_jax(script):
    arguments, words = MISTAKES[script]
    program = PROGRAM.format(script=script, arguments=arguments, slow=SLOW)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    *_, mistake, imported = result.stdout.splitlines()
    assert result.returncode == 0, result.stderr
    assert words in mistake
    assert imported == "imported:"
