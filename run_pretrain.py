"""Pre-trains a BERT: `python run_pretrain.py [RECIPE] [--corpus DIR] [--field value ...]`."""

from commands.errors import run_script
from commands.pretrain.main import main

if __name__ == "__main__":
    run_script(main)
