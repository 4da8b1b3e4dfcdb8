"""Pre-trains a BERT: `python run_pretrain.py [RECIPE] [--corpus DIR] [--field value ...]`."""

import sys
import time
from collections.abc import Sequence

from commands.pretrain.command_line import from_command_line


def main(arguments: Sequence[str]) -> None:
    """Reads the command line, trains, and prints the next commands."""
    started = time.time()
    request = from_command_line(arguments)
    # jax takes seconds to import, so mistakes on the command line are reported before that.
    if topology := request.options.compile_for:
        from commands.pretrain import compile_for

        compile_for.show(request.config, topology)
    elif request.options.learning_rates:
        from commands.pretrain.schedule import learning_rates

        rates = learning_rates(request.config)
        sys.stdout.writelines(f"{step}\t{rate:.9g}\n" for step, rate in enumerate(rates))
    else:
        from commands.pretrain.train import train

        train(request, started)
