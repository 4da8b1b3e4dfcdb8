"""Asks a trained model: `python run_predict.py COMMAND --checkpoint DIR ...`."""

import sys

from commands.errors import user_errors
from commands.predict.main import main

if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
