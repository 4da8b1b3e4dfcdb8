"""What a run leaves to be looked at."""

import io
import json
import time

import pytest
from rich.console import Console

from bert_jax.monitoring.plots import plot_curves
from bert_jax.monitoring.tracker import ProgressBar, Tracker, read_metrics


def test_rows_are_whole_json_objects(tmp_path):
    started = round(time.time(), 3)
    tracker = Tracker(tmp_path, None)
    tracker.log(10, "train", {"loss": 1.5})
    tracker.log(10, "eval", {"loss": 2.5})
    tracker.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == tracker.rows
    (row,) = tracker.evaluations()
    assert started <= row.pop("time") <= round(time.time(), 3)
    assert row == {"step": 10, "split": "eval", "loss": 2.5}
    assert list((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize(("resume", "kept"), [(None, []), (0, [0]), (20, [0, 10, 20])])
def test_resuming_drops_later_rows(tmp_path, resume, kept):
    tracker = Tracker(tmp_path, None)
    for step in (0, 10, 20, 30):
        tracker.log(step, "train", {"loss": 1.0})
    tracker.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 40, "spl')
    Tracker(tmp_path, resume).close()
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == kept


def test_a_log_file_gets_plain_lines(monkeypatch):
    output = io.StringIO()
    progress = ProgressBar(10, 0, seconds_between_lines=0.0)
    progress._console = Console(file=output, width=40)
    with progress:
        progress.step(1)
        progress.step(5)
        progress.metrics("loss 1.0 | 20 sequences/s")
        progress.step(6)
        progress.say("a line that is longer than forty characters stays on one line")
    lines = output.getvalue().splitlines()
    assert lines[:2] == ["step 1/10 | no figures yet", "step 5/10 | no figures yet"]
    assert lines[2].startswith("step 5/10 | loss 1.0 | 20 sequences/s | 0:0")
    assert lines[3].startswith("step 6/10 | loss 1.0 | 20 sequences/s (step 5) | 0:0")
    assert lines[4].endswith("stays on one line")
    assert "\x1b" not in output.getvalue()


def lines_of(monkeypatch, total, done, times):
    """What a log shows of steps taken at these times, in seconds."""
    clock = {"now": 0.0}
    monkeypatch.setattr(time, "monotonic", lambda: clock["now"])
    output = io.StringIO()
    progress = ProgressBar(total, done, seconds_between_lines=1.0)
    progress._console = Console(file=output, width=80)
    for clock["now"], step in times:
        progress.step(step)
        progress.metrics("loss 1.0")
    return output.getvalue().splitlines()


def test_the_time_left_leaves_out_the_first_step_which_compiles(monkeypatch):
    assert lines_of(monkeypatch, 120, 100, [(600.0, 101), (602.0, 102), (610.0, 106)]) == [
        "step 101/120 | no figures yet",
        "step 102/120 | loss 1.0 (step 101) | 0:36 left",
        "step 106/120 | loss 1.0 (step 102) | 0:28 left",  # 4 steps in 8 seconds, not 5 in 10
    ]


def test_the_time_left_is_that_of_the_later_half_of_the_lines(monkeypatch):
    # Ten steps of a minute, which compile, then eleven of a second.
    times = [(60.0 * min(step, 10) + max(step - 10, 0), step) for step in range(1, 22)]
    assert lines_of(monkeypatch, 100, 0, times)[-1].endswith("| 1:19 left")


def test_no_time_left_is_said_where_nothing_was_done(monkeypatch):
    """As while the windows of one long text are answered."""
    lines = lines_of(monkeypatch, 9, 0, [(5.0, 0), (10.0, 0), (15.0, 0)])
    assert lines[-1] == "step 0/9 | loss 1.0"


def test_curves_are_drawn(tmp_path):
    rows = [
        {"step": step, "split": split, "masked_lm_loss": 5.0 - step / 10, "learning_rate": 0.1}
        for step in range(10)
        for split in ("train", "eval")
    ]
    titles = {"masked_lm_loss": "masked-LM loss"}
    plot_curves(rows, tmp_path / "curves.png", titles, unigram_entropy=5.9)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    plot_curves([], tmp_path / "empty.png", titles)
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
