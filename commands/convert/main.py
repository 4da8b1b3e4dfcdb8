"""Converts checkpoints: `python run_convert.py tf1|from-hf|to-hf|merge OPTIONS`."""

from collections.abc import Sequence

from commands.convert.command_line import USAGE, from_command_line


def main(arguments: Sequence[str]) -> None:
    """Reads the command line and converts."""
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help"):
        print(f"usage: {USAGE}")
        return
    request = from_command_line(command, arguments[1:])
    # jax takes seconds to import, so mistakes on the command line are reported before that.
    from commands.convert.conversion import convert

    convert(request)
