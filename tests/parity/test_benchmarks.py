"""The comparison of train steps, at toy size on the CPU."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.gpu import TOY
from benchmarks.step_transformers import hugging_face_batch
from benchmarks.worker import synthetic_batch

ROOT = Path(__file__).parent.parent.parent


def gpu_benchmark(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        timeout=500,
    )


def test_both_sides_train_the_toy(tmp_path):
    output = tmp_path / "gpu.json"
    finished = gpu_benchmark("--toy", "--rounds", "2", "--steps", "10", "--output", str(output))
    assert finished.returncode == 0, finished.stderr
    (row,) = json.loads(output.read_text())["rows"]
    assert set(row["sides"]) == {"bert_jax", "transformers"}
    for side in row["sides"].values():
        # What the command checks too, here from what it wrote.
        assert abs(side["first_loss"] - math.log(200)) < 0.5
        assert side["last_loss"] < side["first_loss"] - 0.5
        assert side["sequences_per_second"] > 0
        assert side["mfu"] is None  # the peak of a CPU is not known
    times = [side["seconds_per_step_by_round"] for side in row["sides"].values()]
    ratios = [theirs / ours for ours, theirs in zip(*times, strict=True)]
    assert row["ratios"] == {"transformers": np.median(ratios)}
    assert f"| {row['ratios']['transformers']:.2f} |" in finished.stdout


def test_without_a_gpu_the_benchmark_says_how_to_go_on():
    finished = gpu_benchmark()
    assert finished.returncode == 2
    assert finished.stderr.splitlines()[-1].startswith("error: bert_jax: jax has ")
    assert "--toy" in finished.stderr


def test_labels_lie_at_the_masked_positions():
    batch = synthetic_batch(TOY.task(4, "cpu"))
    theirs = hugging_face_batch(batch)
    for row in range(4):
        predictions = dict(
            zip(batch["masked_positions"][row], batch["masked_labels"][row], strict=True)
        )
        expected = [predictions.get(position, -100) for position in range(TOY.sequence_length)]
        assert theirs["labels"][row].tolist() == expected
    np.testing.assert_array_equal(theirs["next_sentence_label"], batch["next_sentence_labels"])
    assert {value.dtype.name for value in theirs.values()} == {"int64"}
