"""Converts checkpoints: `python run_convert.py tf1|from-hf|to-hf|merge OPTIONS`."""

from commands.convert.main import main
from commands.errors import run_script

if __name__ == "__main__":
    run_script(main)
