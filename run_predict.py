"""Predicts with a trained model: `python run_predict.py COMMAND --checkpoint DIR ...`."""

from commands.errors import run_script
from commands.predict.main import main

if __name__ == "__main__":
    run_script(main)
