"""Tiny runs of the scripts, in this process and in others."""

import json
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from bert_jax.monitoring.tracker import read_metrics
from bert_jax.training.saved_params import load_params
from commands.errors import user_errors
from data_pipeline.prepare import PrepareConfig, prepare
from tests.fork_server import Run
from tests.processes import ROOT, environment

# The names of metrics.jsonl that tell speed, not numbers.
SPEED = {
    "time", "sequences_per_second", "tokens_per_second", "padding_share", "input_wait_share",
    "model_flops_per_second", "goodput",
}  # fmt: skip
STEPS = 24
WORDS = ["the", "a", "small", "large", "cat", "dog", "tree", "house", "sees", "finds", "likes"]


def prepare_text(folder, documents, **settings):
    """A corpus of documents, one sentence a line, in a folder."""
    (folder / "text.txt").write_text("\n\n".join(documents))
    config = PrepareConfig(
        input=(str(folder / "text.txt"),),
        output=folder / "corpus",
        language="lines",
        processes=1,
        **settings,
    )
    prepare(config)
    return config.output


def options(corpus, work_dir, changes=()):
    vocab_size = json.loads((corpus / "corpus.json").read_text())["vocab_size"]
    values = {
        "corpus": corpus,
        "work-dir": work_dir,
        "evaluation-examples": 16,
        "model.vocab-size": vocab_size,
        "model.hidden-size": 16,
        "model.num-hidden-layers": 1,
        "model.num-attention-heads": 2,
        "model.intermediate-size": 32,
        "model.max-position-embeddings": 32,
        "optimizer.warmup-steps": 4,
        "optimizer.learning-rate": 1e-2,
        "model.dtype": "float32",
        "phases.0.steps": 14,
        "phases.0.sequence-length": 24,
        "phases.0.batch-size": 8,
        "phases.0.max-predictions": 5,
        "phases.1.steps": STEPS - 14,
        "phases.1.sequence-length": 32,
        "phases.1.batch-size": 8,
        "phases.1.max-predictions": 5,
        "loop.log-every": 2,
        "loop.evaluate-every": 6,
        "loop.save-every": 8,
    } | dict(changes)
    return ["base", *(f"--{name}={value}" for name, value in values.items())]


def start(arguments, devices=1, largest_file=None):
    return Run(ROOT / "run_pretrain.py", arguments, devices, largest_file=largest_file)


def finish(arguments):
    process = start(arguments)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def run_alone(script, arguments, devices=1):
    """What a script prints whose interpreter is not a fork, and ends as for a user."""
    done = subprocess.run(
        [sys.executable, ROOT / script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(devices),
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def wait_for(process, condition):
    """Waits until the condition holds; fails if the process ends before."""
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.0005)


def rows(work_dir):
    """The rows of a run without what differs between two runs of the same numbers."""
    return [
        {name: value for name, value in row.items() if name not in SPEED}
        for row in read_metrics(work_dir / "metrics.jsonl")
    ]


def assert_same_run(work_dir, expected):
    found, other = (load_params(folder)[0] for folder in (work_dir, expected))
    jax.tree.map(np.testing.assert_array_equal, found, other)
    assert rows(work_dir) == rows(expected)


def mistake(capsys, main, arguments):
    """The one line that a mistake prints, with exit code 2."""
    with pytest.raises(SystemExit) as caught, user_errors():
        main(arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    return error
