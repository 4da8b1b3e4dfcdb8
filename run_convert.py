"""Converts checkpoints: `python run_convert.py tf1|from-hf|to-hf|merge OPTIONS`."""

import sys

from commands.convert.main import main
from commands.errors import user_errors

if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
