"""The loop on a toy objective: logging, evaluation, saving, stopping and resuming."""

import dataclasses
import json
import os
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from bert_jax.errors import NonFiniteLoss, UserError
from bert_jax.monitoring import throughput
from bert_jax.monitoring.tracker import Tracker, read_metrics
from bert_jax.objectives.objective import Metric
from bert_jax.parallel.sharding import make_mesh
from bert_jax.training import loop
from bert_jax.training.checkpoint import Checkpoints
from bert_jax.training.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
from bert_jax.training.step import init_state

# What differs between two runs of the same numbers.
SPEED = {
    "time", "sequences_per_second", "tokens_per_second", "padding_share", "input_wait_share",
    "model_flops_per_second", "mfu", "goodput",
}  # fmt: skip


class Regression:
    """Fits one vector to the batches' `input_ids`; anything with these members is an objective."""

    @property
    def metrics(self):
        return {"regression_loss": Metric("squared error")}

    def batch_shapes(self, size):
        return {"input_ids": jax.ShapeDtypeStruct((size.rows, 4), jnp.float32)}

    def init(self, key):
        return {"kernel": nn.LogicallyPartitioned(jax.random.normal(key, (4,)), ("embed",))}

    def loss_weights(self, batch):
        return {"regression_loss": jnp.float32(batch["input_ids"].size)}

    def sums(self, params, batch, keys):
        errors = (params["kernel"] - batch["input_ids"]) ** 2
        return {"regression_loss": (errors.sum(), jnp.float32(errors.size))}


def stage(steps, *, poison=None, signal_at=None, held_out=1.0, best="loss"):
    """Batches drawn from their cursor; batch `poison` holds a NaN, `signal_at` raises SIGTERM."""

    def batches(cursor):
        number = 0 if cursor is None else cursor[0]
        while True:
            if number == signal_at:
                os.kill(os.getpid(), signal.SIGTERM)
            ids = np.random.default_rng(number).normal(1.0, 0.1, (4, 4)).astype(np.float32)
            if number == poison:
                ids[0, 0] = np.nan
            number += 1
            mask = np.ones((4, 4), np.int32)
            mask[:, 3] = 0
            cursor_after = np.array([number], np.int64)
            yield {"input_ids": ids, "attention_mask": mask, "cursor": cursor_after}

    def evaluate(params):
        mean = float(np.mean((np.asarray(params["kernel"]) - held_out) ** 2))
        return {"loss": mean, "regression_loss": mean, "score": mean}

    return loop.Stage(steps, batches, evaluate, flops_per_step=1e6, best=best)


def run(folder, stages, learning_rate=0.1, peak_flops=None, run_options=None, **settings):
    config = loop.LoopConfig(**({"log_every": 2, "evaluate_every": 4, "save_every": 4} | settings))
    optimizer_config = OptimizerConfig(learning_rate=learning_rate, warmup_steps=0)
    steps = sum(stage.steps for stage in stages)
    objective, mesh = Regression(), make_mesh(devices=jax.devices()[:1])
    optimizer = make_optimizer(optimizer_config, learning_rate_schedule(optimizer_config, steps))
    checkpoints = Checkpoints(folder / "checkpoints", config.keep_checkpoints, config.keep_best)
    try:
        return loop.run(
            config,
            stages,
            objective=objective,
            optimizer=optimizer,
            mesh=mesh,
            checkpoints=checkpoints,
            open_tracker=lambda step: Tracker(folder, step),
            saved_config={"name": "toy"},
            fresh_state=lambda: init_state(objective, optimizer, mesh, 0),
            seed=0,
            peak_flops=peak_flops,
            **(run_options or {}),
        )
    finally:
        checkpoints.close()


def rows_of(folder, split):
    return [row for row in read_metrics(folder / "metrics.jsonl") if row["split"] == split]


def without_rates(rows):
    return [{name: row[name] for name in row.keys() - SPEED} for row in rows]


def saved_steps(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


def test_logs_evaluates_and_saves_when_asked(tmp_path):
    outcome = run(tmp_path, [stage(6), stage(4)], keep_checkpoints=2, peak_flops=1e12)
    assert outcome.reason == "finished"
    train = rows_of(tmp_path, "train")
    assert [row["step"] for row in train] == [2, 4, 6, 8, 10]
    # Every so many steps, and at the end of each stage.
    assert [row["step"] for row in rows_of(tmp_path, "eval")] == [0, 4, 6, 8, 10]
    assert saved_steps(tmp_path) == [8, 10]
    assert train[-1]["loss"] < train[0]["loss"]
    # The rate of the last update, whose step counts from 0.
    assert train[-1]["learning_rate"] == pytest.approx(0.1 * (1 - 9 / 10))
    assert train[0]["gradient_norm"] > 0
    for row in train:
        assert row.keys() >= SPEED
        assert row["tokens_per_second"] == pytest.approx(3 * row["sequences_per_second"])
        assert row["padding_share"] == pytest.approx(1 / 4)
        assert row["mfu"] == pytest.approx(row["model_flops_per_second"] / 1e12)
        assert 0 <= row["input_wait_share"] <= 1
        assert 0 < row["goodput"] <= 1


def test_a_finished_run_does_nothing(tmp_path):
    first = run(tmp_path, [stage(4)])
    before = (tmp_path / "metrics.jsonl").read_text()
    second = run(tmp_path, [stage(4)])
    assert (tmp_path / "metrics.jsonl").read_text() == before
    np.testing.assert_array_equal(first.state.params["kernel"], second.state.params["kernel"])


@pytest.mark.parametrize("signal_at", [3, 6, 9])
def test_a_stopped_run_continues_as_if_nothing_had_happened(tmp_path, signal_at):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    expected = run(whole, [stage(7), stage(5)])
    index = 0 if signal_at < 7 else 1
    stages = [stage(7), stage(5)]
    stages[index] = stage((7, 5)[index], signal_at=signal_at - 7 * index)
    stopped = run(parts, stages)
    assert stopped.reason == "stopped"
    assert 0 < int(stopped.state.step) < 12
    found = run(parts, [stage(7), stage(5)])
    assert found.reason == "finished"
    np.testing.assert_array_equal(found.state.params["kernel"], expected.state.params["kernel"])
    jax.tree.map(np.testing.assert_array_equal, found.state.opt_state, expected.state.opt_state)
    for split in ("train", "eval"):
        assert without_rates(rows_of(parts, split)) == without_rates(rows_of(whole, split))


def test_rows_after_the_last_checkpoint_are_computed_again(tmp_path):
    """As after kill -9: the log is ahead of the checkpoint, and its last line is cut short."""
    run(tmp_path, [stage(8)], save_every=8)
    expected = without_rates(read_metrics(tmp_path / "metrics.jsonl"))
    other = tmp_path / "other"
    other.mkdir()
    stopped = run(other, [stage(8, signal_at=4)], save_every=8)
    step = int(stopped.state.step)
    with open(other / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": step + 1, "split": "train", "loss": 9.0}))
        file.write('\n{"step": 99, "sp')
    run(other, [stage(8)], save_every=8)
    assert without_rates(read_metrics(other / "metrics.jsonl")) == expected


def test_a_nan_stops_the_run_and_is_not_saved(tmp_path):
    with pytest.raises(NonFiniteLoss) as caught:
        run(tmp_path, [stage(12, poison=6)])
    message = str(caught.value)
    assert "step 7: loss nan" in message
    assert "position [6]" in message
    assert "step 4 is saved" in message
    assert saved_steps(tmp_path) == [4]
    assert max(row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")) == 6


def best_in_the_middle(steps=100):
    """The held-out value lies on the way of training, so that the loss falls, then rises."""
    start = float(jax.random.normal(jax.random.key(0), (4,))[0])
    return [stage(steps, held_out=(start + 1.0) / 2)]


def run_with_patience(folder, stages, **settings):
    settings = {"evaluate_every": 1, "save_every": 50, "keep_checkpoints": 1} | settings
    return run(folder, stages, learning_rate=0.05, keep_best=True, patience=3, **settings)


def test_patience_stops_and_the_best_checkpoint_stays(tmp_path):
    outcome = run_with_patience(tmp_path, best_in_the_middle())
    losses = [row["loss"] for row in rows_of(tmp_path, "eval")]
    assert outcome.reason == "patience"
    best = losses.index(min(losses))
    assert best > 0
    assert len(losses) == best + 4
    assert saved_steps(tmp_path) == [best, best + 3]
    again = run_with_patience(tmp_path, best_in_the_middle())
    assert again.reason == "patience"
    assert int(again.state.step) == best + 3
    assert saved_steps(tmp_path) == [best, best + 3]


def test_a_score_is_best_where_it_is_highest(tmp_path):
    """The toy's score is its loss, so that what falls and rises again is best at its ends."""
    outcome = run_with_patience(tmp_path, [stage(100, held_out=1e3, best="score")])
    scores = [row["score"] for row in rows_of(tmp_path, "eval")]
    assert outcome.reason == "patience"
    assert len(scores) == scores.index(max(scores)) + 4
    assert saved_steps(tmp_path)[0] == scores.index(max(scores))


def test_a_score_before_the_first_step_is_no_best(tmp_path):
    scores = iter([0.9, 0.1, 0.3, 0.2, 0.2, 0.2, 0.2])
    scripted = dataclasses.replace(
        stage(6, best="score"), evaluate=lambda params: {"loss": 1.0, "score": next(scores)}
    )
    run(tmp_path, [scripted], evaluate_every=1, keep_best=True, patience=2)
    assert [row["score"] for row in rows_of(tmp_path, "eval")] == [0.9, 0.1, 0.3, 0.2, 0.2]


def test_of_equal_scores_the_first_stays_best_whenever_is_saved(tmp_path):
    """A signal saves the second of two equal ones, which without it would not be saved."""
    found = iter([(0.0, False), (0.3, True), (0.3, False)])

    def evaluate(params):
        score, ends = next(found)
        if ends:  # seen after the next step
            os.kill(os.getpid(), signal.SIGTERM)
        return {"loss": 1.0, "score": score}

    scripted = dataclasses.replace(stage(6, best="score"), evaluate=evaluate)
    settings = {"evaluate_every": 1, "save_every": 50, "keep_checkpoints": 1, "keep_best": True}
    assert run(tmp_path, [scripted], **settings).reason == "stopped"
    assert saved_steps(tmp_path) == [1, 2]
    checkpoints = Checkpoints(tmp_path / "checkpoints", 1, keep_best=True)
    assert checkpoints.best_step == 1
    checkpoints.close()


def test_a_signal_that_comes_too_late_to_stop_is_told(tmp_path):
    for name in ("whole", "late"):
        (tmp_path / name).mkdir()
    whole = run(tmp_path / "whole", [stage(4)], evaluate_every=0)
    assert (whole.reason, whole.interrupted) == ("finished", False)

    def evaluate(params):
        if next(calls):
            os.kill(os.getpid(), signal.SIGTERM)
        return {"loss": 1.0}

    calls = iter([False, True])  # before the first step, after the last
    late = dataclasses.replace(stage(4), evaluate=evaluate)
    outcome = run(tmp_path / "late", [late], evaluate_every=0)
    assert (outcome.reason, outcome.interrupted) == ("finished", True)
    assert int(outcome.state.step) == 4


def test_the_best_checkpoint_survives_a_resume(tmp_path):
    stages = best_in_the_middle()
    whole = tmp_path / "whole"
    whole.mkdir()
    run_with_patience(whole, stages)
    best, end = saved_steps(whole)
    parts = tmp_path / "parts"
    parts.mkdir()
    start = float(jax.random.normal(jax.random.key(0), (4,))[0])
    stopped = run_with_patience(parts, [stage(100, signal_at=best + 1, held_out=(start + 1.0) / 2)])
    assert best <= int(stopped.state.step) < end
    run_with_patience(parts, stages)
    assert saved_steps(parts) == [best, end]


def test_losses_of_different_stages_are_not_compared(tmp_path):
    """The second stage's held-out set is harder: it is neither out of patience nor never best."""
    outcome = run_with_patience(tmp_path, [stage(6), stage(6, held_out=50.0)], evaluate_every=1)
    assert outcome.reason == "finished"
    assert all(step > 6 for step in saved_steps(tmp_path))


def test_a_state_that_is_not_finite_is_neither_logged_nor_saved(tmp_path):
    """The loss is computed before the update, so the last step's update shows only afterwards."""
    with pytest.raises(NonFiniteLoss, match="step 1: held-out loss not finite"):
        run(tmp_path, [stage(4)], learning_rate=3e38, evaluate_every=1, save_every=1)
    assert all(np.isfinite(row["loss"]) for row in read_metrics(tmp_path / "metrics.jsonl"))
    assert saved_steps(tmp_path) == []
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(NonFiniteLoss, match="step 1: parameters not finite"):
        run(other, [stage(4)], learning_rate=3e38, evaluate_every=0, save_every=1)
    assert saved_steps(other) == []


def test_patience_needs_evaluations():
    with pytest.raises(UserError, match=r"loop\.patience 1"):
        loop.LoopConfig(patience=1, evaluate_every=0).validate()


class Watched:
    """A metric that notes who looks at it, and when, among the steps."""

    def __init__(self, step, events):
        self.step, self.events = step, events

    def _note(self):
        if threading.current_thread() is threading.main_thread():
            self.events.append(("look", self.step))

    def block_until_ready(self):
        self._note()
        return self

    def __array__(self, *_, **__):
        self._note()
        return np.float32(1.0)


def test_the_host_looks_at_a_step_only_where_it_must(tmp_path, monkeypatch):
    """Else it could not run ahead of the device: logs at 3 and 6, saves at 5, ends at 8."""
    events = []
    make_train_step = loop.make_train_step

    def make(*arguments, **settings):
        compiled = make_train_step(*arguments, **settings)

        def train_step(state, batch, seed):
            number = sum(kind == "step" for kind, _ in events) + 1
            events.append(("step", number))
            watched = Watched(number, events)
            return compiled(state, batch, seed)[0], {"loss": watched, "gradient_norm": watched}

        return train_step

    monkeypatch.setattr(loop, "make_train_step", make)
    run(tmp_path, [stage(8)], log_every=3, save_every=5, evaluate_every=0)
    looks = {}
    taken = 0
    for kind, number in events:
        taken = number if kind == "step" else taken
        if kind == "look":
            looks.setdefault(taken, set()).add(number)
    # Step 1 is waited for, so that the clock starts after compilation.
    assert looks == {1: {1}, 3: {1, 2, 3}, 5: {4, 5}, 6: {6}, 8: {7, 8}}


def test_a_profile_names_the_steps_and_training_goes_on(tmp_path, capfd):
    folder = tmp_path / "profile"
    run(tmp_path, [stage(6), stage(4)], run_options={"profile": folder}, log_every=100)
    assert f"trace of 5 steps in {folder}" in capfd.readouterr().err
    (file,) = folder.rglob("*.xplane.pb")
    events = [
        (event.name, dict(event.stats).get("step_num"))
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes
        for line in plane.lines
        for event in line.events
    ]
    assert [step for name, step in events if name == "train"] == [3, 4, 5, 6, 7]
    assert any(name == "wait for input" for name, _ in events)
    assert list(folder.rglob("*.trace.json.gz"))
    assert [row["step"] for row in rows_of(tmp_path, "train")] == [4, 6, 8, 10]


def test_a_run_too_short_for_the_whole_trace_writes_what_there_was(tmp_path, capfd):
    run(tmp_path, [stage(4)], run_options={"profile": tmp_path / "profile"})
    assert "trace of 2 steps" in capfd.readouterr().err
    assert list(tmp_path.rglob("*.xplane.pb"))


def test_goodput_is_of_the_time_since_the_first_start(tmp_path):
    run(tmp_path, [stage(6)], run_options={"first_start": time.time() - 3600})
    first, *_, last = rows_of(tmp_path, "train")
    assert 0 < first["goodput"] < last["goodput"] < 0.1


def test_slow_input_is_warned_of_once(tmp_path, capfd, monkeypatch):
    """After each row the device has nothing to do while the next batch takes its time."""
    monkeypatch.setattr(throughput, "WARN_INPUT_WAIT", 1e-6)
    slow = stage(12)

    def batches(cursor):
        for batch in slow.batches(cursor):
            time.sleep(0.01)
            yield batch

    run(tmp_path, [dataclasses.replace(slow, batches=batches)])
    assert capfd.readouterr().err.count("the devices waited for input") == 1
