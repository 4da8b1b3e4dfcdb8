"""Pre-trains a BERT: `python run_pretrain.py [RECIPE] [--corpus DIR] [--field value ...]`."""

import sys

from commands.errors import user_errors
from commands.pretrain.main import main

if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
