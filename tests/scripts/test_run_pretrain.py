"""A run as a user sees it: what it leaves, interruption, kill -9, a full disk."""

import json
import shutil
import signal

import pytest

import run_pretrain
from bert_jax.monitoring.tracker import read_metrics
from bert_jax.training.saved_params import saved_steps
from tests.scripts.runs import (
    SPEED,
    STEPS,
    assert_same_run,
    finish,
    mistake,
    options,
    rows,
    start,
    wait_for,
)


def test_a_run_leaves_what_it_promises(whole_run):
    work_dir, output = whole_run
    names = {path.name for path in work_dir.iterdir()}
    assert {
        "config.json", "checkpoints", "metrics.jsonl", "tensorboard", "curves.png", "vocab.txt",
        "summary.json",
    } <= names  # fmt: skip
    train = [row for row in read_metrics(work_dir / "metrics.jsonl") if row["split"] == "train"]
    assert [row["step"] for row in train] == list(range(2, STEPS + 1, 2))
    assert set(train[0]) == {
        "step", "split", "loss", "masked_lm_loss", "masked_lm_accuracy", "next_sentence_loss",
        "next_sentence_accuracy", "learning_rate", "gradient_norm", *SPEED,
    }  # fmt: skip
    evaluations = [row for row in rows(work_dir) if row["split"] == "eval"]
    assert [row["step"] for row in evaluations] == [0, 6, 12, 14, 18, 24]
    assert evaluations[-1]["masked_lm_loss"] < evaluations[0]["masked_lm_loss"] - 0.5
    assert "unigram entropy" in output
    assert "speed, phase 1" in output
    assert "; goodput " in output
    assert "python run_predict.py fill-mask" in output
    assert "\x1b" not in output


def test_sentence_order_and_spans_are_trained_and_traced(corpus, tmp_path, capsys):
    changes = {
        "data.pairs": "sentence_order",
        "data.masking": "span",
        "phases.0.steps": 2,
        "phases.1.steps": 1,
        "phases.1.sequence-length": 24,  # one shape, one compilation
        "optimizer.warmup-steps": 1,
        "loop.log-every": 1,
    }
    run_pretrain.main([*options(corpus, tmp_path / "run", changes), "--profile"])
    assert "order accuracy" in capsys.readouterr().out
    assert list((tmp_path / "run/profile").rglob("*.xplane.pb"))
    found = read_metrics(tmp_path / "run/metrics.jsonl")
    assert {row["split"] for row in found} == {"train", "eval"}
    for row in found:
        assert {"sentence_order_loss", "sentence_order_accuracy"} <= row.keys()
        assert "next_sentence_loss" not in row


def test_packed_rows_are_trained_and_continued(corpus, tmp_path, capsys):
    changes = {
        "data.pairs": "doc_sentences",
        "phases.0.steps": 6,
        "phases.1.steps": 1,
        "phases.1.sequence-length": 24,
        "optimizer.warmup-steps": 1,
        "loop.log-every": 1,
        "loop.save-every": 4,
    }
    expected, again = tmp_path / "expected", tmp_path / "again"
    run_pretrain.main([*options(corpus, expected, changes), "--data.packed"])
    train = read_metrics(expected / "metrics.jsonl")
    shares = [row["padding_share"] for row in train if "padding_share" in row]
    assert shares
    assert max(shares) < 0.4  # one sequence of up to 12 sentences in a row leaves more
    # As a crash after the first checkpoint leaves it.
    shutil.copytree(expected, again)
    (again / "summary.json").unlink()
    for step in saved_steps(again)[1:]:
        shutil.rmtree(again / "checkpoints" / str(step))
    run_pretrain.main([*options(corpus, again, changes), "--data.packed"])
    assert "continuing from the checkpoint of step 4" in capsys.readouterr().err
    assert_same_run(again, expected)


def test_kill_9_at_any_moment_loses_nothing_that_shows(corpus, whole_run, tmp_path):
    """Mid-step, mid-save and mid-evaluation, one after the other, then to the end."""
    work_dir = tmp_path / "run"
    log, checkpoints = work_dir / "metrics.jsonl", work_dir / "checkpoints"

    def logged(step, split):
        return any(row["step"] == step and row["split"] == split for row in read_metrics(log))

    moments = [
        lambda: logged(4, "train"),  # stepping, before the first checkpoint
        lambda: any("tmp" in path.name for path in checkpoints.glob("*")),  # saving
        lambda: logged(18, "train") and not logged(18, "eval"),  # evaluating
    ]

    def first_start():
        return json.loads((work_dir / "config.json").read_text())["first_start"]

    arguments = options(corpus, work_dir)
    first_starts = []
    for moment in moments:
        process = start(arguments)
        wait_for(process, moment)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        first_starts.append(first_start())
    code, output = finish(arguments)
    assert code == 0, output
    assert "continuing from the checkpoint of step" in output
    assert_same_run(work_dir, whole_run[0])
    assert set(first_starts) == {first_start()}
    assert not any("tmp" in path.name for path in checkpoints.iterdir())


def test_sigterm_saves_and_the_same_command_continues(corpus, whole_run, tmp_path, capsys):
    work_dir = tmp_path / "run"
    arguments = options(corpus, work_dir)
    process = start(arguments)
    wait_for(process, lambda: len(read_metrics(work_dir / "metrics.jsonl")) > 2)
    assert "another process is training" in mistake(capsys, run_pretrain.main, arguments)
    process.terminate()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "SIGTERM: saved step" in output
    assert not (work_dir / "summary.json").exists()
    code, output = finish(arguments)
    assert code == 0, output
    assert_same_run(work_dir, whole_run[0])


def test_a_finished_run_typed_again_says_so(corpus, whole_run, capsys):
    work_dir, _ = whole_run
    before = {path: path.stat().st_mtime_ns for path in work_dir.rglob("*")}
    run_pretrain.main(options(corpus, work_dir))
    assert "finished: nothing to do" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in work_dir.rglob("*")}


@pytest.mark.parametrize("blocks", [6, 40])
def test_a_full_disk_is_one_line_and_what_was_complete_stays(corpus, whole_run, tmp_path, blocks):
    """No file may grow beyond some blocks of 512 bytes: the kernel enforces it in every thread."""
    arguments = options(corpus, tmp_path / "run")
    process = start(arguments, largest_file=512 * blocks)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2, output
    assert "Traceback" not in output
    assert output.strip().splitlines()[-1].startswith("error: the disk is full, or a limit")
    assert len(output) < 512 * blocks // 2, "the output is a file, too"
    code, output = finish(arguments)
    assert code == 0, output
    assert_same_run(tmp_path / "run", whole_run[0])
