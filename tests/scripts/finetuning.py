"""Tiny fine-tunings of the tiny pre-trained run."""

import random

from tests.fork_server import Run
from tests.processes import ROOT
from tests.scripts.runs import WORDS

FILLERS = [word for word in WORDS if word not in ("cat", "dog")]


def write_texts(path, rows, seed=0):
    """A table of sentences about cats or about dogs."""
    source = random.Random(seed)
    lines = ["sentence\tlabel\n"]
    for _ in range(rows):
        animal = source.choice(["cat", "dog"])
        words = source.choices(FILLERS, k=source.randint(3, 9))
        words.insert(source.randrange(len(words)), animal)
        lines.append(f"{' '.join(words)}\t{animal}\n")
    path.write_text("".join(lines))


def finetune_options(folder, pretrained, work_dir, task="sst2", changes=()):
    values = {
        "init-from": pretrained,
        "data": folder,
        "work-dir": work_dir,
        "sequence-length": 24,
        "batch-size": 8,
        "epochs": 4,
        "log-every": 2,
        "optimizer.learning-rate": 1e-2,
        "dropout": 0,  # a toy of sixty steps learns by luck with it
    } | dict(changes)
    return [task, *(f"--{name}={value}" for name, value in values.items())]


def start_finetune(arguments):
    return Run(ROOT / "run_finetune.py", arguments, devices=4)  # as many as tests/conftest.py gives
