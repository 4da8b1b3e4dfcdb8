"""Predicts with a trained model: `python run_predict.py COMMAND --checkpoint DIR ...`."""

import difflib
from collections.abc import Sequence

from bert_jax.errors import UserError
from bert_jax.tasks.registry import commands
from commands.predict.command_line import FILL_MASK, read_fill_mask, read_predict, usage


def main(arguments: Sequence[str]) -> None:
    """Reads the command line and prints the model's answers."""
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help"):
        print(f"usage: {usage()}")
        return
    names = [FILL_MASK, *commands()]
    if command not in names:
        nearest = difflib.get_close_matches(command, names, n=1, cutoff=0)[0]
        raise UserError(
            f"unknown command {command!r}; did you mean {nearest!r}? There are: {', '.join(names)}"
        )
    # jax takes seconds to import, so mistakes on the command line are reported before that.
    if command == FILL_MASK:
        fill_request = read_fill_mask(arguments[1:])
        from commands.predict.masks import fill_masks

        fill_masks(fill_request)
    else:
        request = read_predict(command, arguments[1:])
        from commands.predict.answers import answer

        answer(command, request)
