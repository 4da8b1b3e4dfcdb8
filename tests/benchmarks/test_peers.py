import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks.peers import (
    OURS,
    Comparison,
    MissingDevice,
    NotComparable,
    OutOfMemory,
    Side,
    TimeUp,
    Workload,
    check_training,
)
from benchmarks.peers_command import make_parser, run
from benchmarks.worker import synthetic_batch
from bert_jax.models.bert import BertConfig
from bert_jax.models.flops import model_flops

ROOT = Path(__file__).parent.parent.parent
WORKLOAD = Workload(
    "small", BertConfig(vocab_size=50, dtype="bfloat16"), 16, 3, (8, 4), target_ratio=1.0
)


@pytest.fixture
def sides(tmp_path):
    """Makes our side and a peer, with options for either."""

    def make(ours=(), theirs=()):
        return [
            Side(
                name,
                "tests.benchmarks.fake_side",
                {"name": name, "log": str(tmp_path / "log"), **dict(options)},
            )
            for name, options in ((OURS, ours), ("peer", theirs))
        ]

    return make


def comparison(sides, seconds=300.0):
    return Comparison(sides, "gpu", 3, 4, time.monotonic() + seconds)


def test_sides_take_turns_and_ratios_are_medians_over_rounds(sides, tmp_path):
    row = comparison(sides()).run(WORKLOAD, 8)
    orders = (tmp_path / "log").read_text().splitlines()
    set_up = [f"{name} {steps}" for name in (OURS, "peer") for steps in (1, 2)]
    turns = [OURS, "peer", "peer", OURS, OURS, "peer"]
    # Each turn begins with a step off the clock.
    assert orders == set_up + [f"{name} {steps}" for name in turns for steps in (1, 4)]
    ours, peer = (row["sides"][name] for name in (OURS, "peer"))
    times = {name: np.array(row["sides"][name]["seconds_per_step_by_round"]) for name in turns}
    assert row["ratios"] == {"peer": np.median(times["peer"] / times[OURS])}
    assert ours["milliseconds_per_step"] == pytest.approx(1e3 * np.median(times[OURS]))
    assert peer["sequences_per_second"] == pytest.approx(8 / np.median(times["peer"]))
    flops = model_flops(WORKLOAD.model, batch_size=8, sequence_length=16, max_predictions=3)
    assert ours["mfu"] == pytest.approx(flops / np.median(times[OURS]) / 989e12)
    assert ours["first_loss"] == pytest.approx(math.log(100))
    assert ours["last_loss"] < ours["first_loss"]


def test_the_largest_batch_is_what_every_side_has_the_memory_for(sides, capsys):
    assert comparison(sides(theirs={"largest_batch": 4})).largest(WORKLOAD)["batch_size"] == 4
    message = "small 16: batch 8 is too much for peer: MemoryError: batch 8\n"
    assert capsys.readouterr().err == message
    with pytest.raises(OutOfMemory, match="batch 4 is too much for bert_jax"):
        comparison(sides(ours={"largest_batch": 3})).largest(WORKLOAD)


@pytest.mark.parametrize(
    ("fails", "error", "message"),
    [
        ("missing", MissingDevice, "peer: there is no such device"),
        ("crash", NotComparable, "peer: ValueError: nothing works"),
        ("exit", NotComparable, "peer ended with exit code 3"),
    ],
)
def test_a_failure_names_the_side(sides, fails, error, message):
    with pytest.raises(error, match=message):
        comparison(sides(theirs={"fails": fails})).run(WORKLOAD, 8)


def test_a_side_that_hangs_is_ended_when_the_time_is_up(sides):
    hanging = comparison(sides(ours={"fails": "hang"}), seconds=1.0)
    with pytest.raises(TimeUp):
        hanging.run(WORKLOAD, 8)
    children = psutil.Process().children(recursive=True)
    assert not any("tests.benchmarks.fake_side" in child.cmdline() for child in children)


def test_what_does_not_train_is_refused():
    start = math.log(100)

    def check(first=start, last=1.0, parameters=7):
        facts = {
            OURS: {"first_loss": start, "parameters": 7},
            "peer": {"first_loss": first, "parameters": parameters},
        }
        check_training(50, facts, {OURS: 1.0, "peer": last})

    check()
    for mistake, message in (
        ({"first": start + 1}, "peer: the first loss is 5.605; .* = 4.605"),
        ({"first": start - 1}, "peer: the first loss is 3.605"),
        ({"first": math.nan}, "peer: the first loss is nan"),
        ({"last": start - 0.05}, "peer: the loss of one and the same batch went"),
        ({"last": math.nan}, "peer: the loss of one and the same batch went"),
        ({"parameters": 8}, "numbers of parameters: {'bert_jax': 7, 'peer': 8}"),
    ):
        with pytest.raises(NotComparable, match=message):
            check(**mistake)


def command(arguments, sides, workloads=(WORKLOAD,)):
    parser = make_parser("A comparison.", rounds=3, steps=4, minutes=5)
    run(parser, parser.parse_args(arguments), workloads, sides, platform="gpu")


def test_the_results_say_what_was_run_and_what_was_not(sides, tmp_path, capsys):
    too_large = Workload("huge", WORKLOAD.model, 32, 3, (16,))
    output = tmp_path / "results.json"
    options = {"largest_batch": 8}
    command(["--output", str(output)], sides(options, options), (too_large, WORKLOAD))
    results = json.loads(output.read_text())
    (row,) = results["rows"]
    assert (row["model"], row["batch_size"], row["target_ratio"]) == ("small", 8, 1.0)
    assert [entry["model"] for entry in results["not_run"]] == ["huge"]
    assert results["device"] == "NVIDIA H200"
    table = capsys.readouterr().out
    verdict = "met" if row["ratios"]["peer"] >= 1 else "missed"
    assert f"| {row['ratios']['peer']:.2f} (target 1: {verdict}) |" in table
    assert "not run: huge at length 32: batch 16 is too much for bert_jax" in table


def test_without_time_nothing_is_run_and_the_exit_code_says_so(sides, tmp_path):
    output = tmp_path / "results.json"
    with pytest.raises(SystemExit, match="error: small at length 16: the time budget ended"):
        command(["--minutes", "0", "--output", str(output)], sides())
    results = json.loads(output.read_text())
    assert (results["rows"], len(results["not_run"])) == ([], 1)


def test_a_failed_side_fails_the_command(sides):
    with pytest.raises(SystemExit, match="error: small at length 16: peer: ValueError"):
        command([], sides(theirs={"fails": "crash"}))


def test_a_missing_device_is_a_mistake_of_one_line(sides, capsys):
    with pytest.raises(SystemExit) as caught:
        command([], sides(theirs={"fails": "missing"}))
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: peer: there is no such device\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "tiny"], "--only tiny: there are small, small-16"),
        (["--set", "hiden_size=4"], "'hiden_size' is none of vocab_size, hidden_size"),
        (["--set", "hidden_size=770"], "--set: model.hidden_size 770 is not divisible"),
        (["--rounds", "0"], "0 is not positive"),
        (["--minutes", "nan"], "nan is not between"),
        (["--output", "nowhere/results.json"], "its folder is not there"),
    ],
)
def test_mistakes_are_refused_before_anything_starts(arguments, message, sides, capsys):
    with pytest.raises(SystemExit) as caught:
        command(arguments, sides(ours={"fails": "hang"}))
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_the_batch_keeps_the_contract():
    task = WORKLOAD.task(8, "cpu")
    batch = synthetic_batch(task)
    assert {name: (value.dtype.name, value.shape) for name, value in batch.items()} == {
        "input_ids": ("int32", (8, 16)),
        "token_type_ids": ("int32", (8, 16)),
        "attention_mask": ("int32", (8, 16)),
        "masked_positions": ("int32", (8, 3)),
        "masked_labels": ("int32", (8, 3)),
        "masked_weights": ("float32", (8, 3)),
        "next_sentence_labels": ("int32", (8,)),
    }
    assert all(len(set(row)) == 3 for row in batch["masked_positions"].tolist())
    assert batch["masked_positions"].max() < 16
    assert batch["input_ids"].max() < 50
    assert batch["attention_mask"].all()
    assert batch["masked_weights"].all()
    for name, value in synthetic_batch(task).items():
        np.testing.assert_array_equal(value, batch[name])


def test_ours_on_a_gpu_needs_jax_and_little_else():
    unwanted = {"tensorflow", "tensorboardX", "tyro", "torch", "tokenizers", "sentencepiece"}
    code = "import benchmarks.gpu, benchmarks.step_bert_jax, sys; print(*sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert not unwanted & set(output.split())
