"""Fine-tunes a BERT: `python run_finetune.py TASK --init-from DIR --data DIR ...`."""

import sys

from commands.errors import user_errors
from commands.finetune.main import main

if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
