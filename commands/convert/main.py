"""Converts checkpoints: `python run_convert.py tf1|from-hf|to-hf|merge OPTIONS`.

tf1 and from-hf make a folder of ours from the original's TF1 checkpoints and from Hugging Face's
models; to-hf makes a folder that `transformers` loads from a run of ours; merge makes a checkpoint
of all weights from a run that saved only the few that it trained.
"""

from collections.abc import Sequence

from commands.convert.command_line import USAGE, from_command_line


def main(arguments: Sequence[str]) -> None:
    """Reads the command line, converts, and prints what was found and what to type next."""
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help"):
        print(f"usage: {USAGE}")
        return
    request = from_command_line(command, arguments[1:])
    # jax takes seconds to import: only after the command line has proved right.
    from commands.convert.conversion import convert

    convert(request)
