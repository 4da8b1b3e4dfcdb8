"""Fine-tunes a BERT: `python run_finetune.py TASK --init-from DIR --data DIR ...`."""

from commands.errors import run_script
from commands.finetune.main import main

if __name__ == "__main__":
    run_script(main)
