"""The options of all command lines are those that were recorded."""

from tests.golden.command_lines import RECORD, command_lines


def test_options_and_defaults_are_the_recorded_ones():
    """If the change is meant: `python -m tests.golden.command_lines`."""
    assert command_lines() == RECORD.read_text(encoding="utf-8")
