"""The training loop, for any objective, over stages of batches."""

import collections
import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from bert_jax.errors import NonFiniteLoss
from bert_jax.monitoring.profiler import Profiler
from bert_jax.monitoring.throughput import DeviceWatch, Throughput
from bert_jax.monitoring.tracker import ProgressBar, Tracker
from bert_jax.objectives.objective import Objective
from bert_jax.parallel.distributed import is_first, of_first, on_any
from bert_jax.parallel.process import return_freed_memory
from bert_jax.parallel.sharding import host_rows, put_batch
from bert_jax.parallel.stop_signal import StopSignal
from bert_jax.training.checkpoint import Checkpoints
from bert_jax.training.config import LoopConfig
from bert_jax.training.optimizer import Optimizer
from bert_jax.training.step import TrainState, abstract_state, make_train_step

HostBatch = dict[str, np.ndarray]
PREFETCHED_BATCHES = 2
# Steps dispatched ahead of the results: enough that devices never wait, few enough that the loop
# reacts to a signal soon and batches do not pile up.
STEPS_AHEAD = 8
STEPS_BETWEEN_QUESTIONS = 10  # how often hosts ask each other whether a signal has reached any


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stretch of training with batches of one shape.

    Attributes:
      steps: optimizer steps.
      batches: endless batches from a cursor, or from the stage's start for None. Besides the
        model's inputs, each batch has a "cursor", int64 [n]: where the data continues after it.
      evaluate: metrics of parameters on held-out data, including "loss"; None for no evaluation.
      flops_per_step: model FLOPs of one optimizer step.
      best: the metric that decides which parameters are best: "loss", the lower the better, or
        another, the higher the better.
      rows: what the progress line calls the rows of a batch.
    """

    steps: int
    batches: Callable[[Sequence[int] | None], Iterator[HostBatch]]
    evaluate: Callable[[Any], dict[str, float]] | None
    flops_per_step: float
    best: str = "loss"
    rows: str = "sequences"

    def rank(self, metrics: Mapping[str, float]) -> float:
        """`best` as a number by which to order evaluations, the best first."""
        return metrics["loss"] if self.best == "loss" else -metrics[self.best]


class Outcome(NamedTuple):
    """How a run ended."""

    state: TrainState
    reason: str  # "finished", "patience" (early stopping) or "stopped" (a signal; state is saved)
    interrupted: bool  # whether there was a signal, even if too late to stop this run


class _Prefetched(NamedTuple):
    batch: dict[str, jax.Array]
    start: list[int] | None  # cursor before the batch, None at the start of a stage
    end: list[int]
    sequences: int
    tokens: int
    slots: int  # tokens with padding


def _prefetch(
    batches: Iterator[HostBatch], start: Sequence[int] | None, mesh: Mesh
) -> Iterator[_Prefetched]:
    """Sends batches to the device ahead of their use."""
    queue: collections.deque[_Prefetched] = collections.deque()
    before = None if start is None else list(start)
    _, parts = host_rows(mesh)
    for host_batch in batches:
        after = host_batch.pop("cursor").tolist()
        mask = host_batch["attention_mask"]
        # Assumes that the other hosts' parts have as many tokens as this one's.
        sizes = (len(mask), int(np.count_nonzero(mask)), mask.size)
        counts = (size * parts for size in sizes)
        queue.append(_Prefetched(put_batch(host_batch, mesh), before, after, *counts))
        before = after
        if len(queue) == PREFETCHED_BATCHES:
            yield queue.popleft()
    yield from queue


class _Pending(NamedTuple):
    """A step that was dispatched and whose metrics have not been fetched."""

    step: int
    start: list[int] | None
    metrics: dict[str, jax.Array]


def run(
    config: LoopConfig,
    stages: Sequence[Stage],
    *,
    objective: Objective,
    optimizer: Optimizer,
    mesh: Mesh,
    checkpoints: Checkpoints,
    open_tracker: Callable[[int | None], Tracker],
    saved_config: dict[str, Any],
    fresh_state: Callable[[], TrainState],
    seed: int,
    peak_flops: float | None = None,
    first_start: float | None = None,
    profile: Path | None = None,
) -> Outcome:
    """Trains from the last checkpoint, or from the start, to the end of the last stage.

    Args:
      config: when to log, evaluate and save.
      stages: run one after the other, with one schedule and one series of checkpoints.
      objective: what is trained.
      optimizer: for the steps of all stages.
      mesh: the device mesh.
      checkpoints: where to save, and what to continue from.
      open_tracker: opens the tracker, given the step that the run continues from.
      saved_config: the resolved configuration, saved in every checkpoint.
      fresh_state: makes the initial state if there is no checkpoint. Its step may be in the middle
        of a stage, which still begins with its first batch.
      seed: of dropout.
      peak_flops: dense peak of all devices together in FLOP/s, if known.
      first_start: Unix time at which the run was first started, for goodput; None for now.
      profile: folder for a profiler trace of a few steps, None for no trace.

    Raises:
      NonFiniteLoss: the loss or the gradient norm became NaN or infinite.
    """
    shapes, shardings = abstract_state(objective, optimizer, mesh)
    restored = checkpoints.restore(shapes, shardings)
    state = fresh_state() if restored is None else restored.state
    cursor = None if restored is None else list(restored.cursor)
    step = first_step = int(state.step)
    train_step = make_train_step(objective, optimizer, mesh, accumulation=config.accumulation_steps)
    all_finite = jax.jit(
        lambda tree: jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]))
    )
    total_steps = sum(stage.steps for stage in stages)

    def run_evaluation(
        step: int, state: TrainState, evaluate: Callable[[Any], dict[str, float]]
    ) -> dict[str, float]:
        metrics = evaluate(state.params)
        if not math.isfinite(metrics["loss"]):
            raise _not_finite(step, cursor, "held-out loss", checkpoints)
        tracker.log(step, "eval", metrics)
        shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        progress.say(f"step {step} held-out: {shown}")
        return metrics

    with (
        StopSignal() as stop,
        contextlib.closing(open_tracker(None if restored is None else step)) as tracker,
        ProgressBar(total_steps, step, shown=is_first()) as progress,
        DeviceWatch() as device,
        Profiler(profile, progress.say) as profiler,
    ):
        throughput = Throughput(
            device, peak_flops=peak_flops, first_start=first_start, rows=tracker.rows, step=step
        )
        if restored is not None:
            progress.say(f"continuing from the checkpoint of step {step}")
        reason = "finished"
        stage_end = 0
        for number, stage in enumerate(stages):
            stage_start, stage_end = stage_end, stage_end + stage.steps
            if reason != "finished":
                break
            since_best = _evaluations_since_best(tracker, stage, stage_start)
            if stage_start < step <= stage_end and 0 < config.patience <= since_best:
                reason = "patience"  # it stopped early, but was killed before it could say so
                break
            if step >= stage_end:
                continue
            if step == stage_start:
                cursor = None
            if restored is None and step == first_step and stage.evaluate:
                run_evaluation(step, state, stage.evaluate)

            pending: list[_Pending] = []
            stopping = False
            throughput.begin_stage(stage.flops_per_step)
            for item in _prefetch(throughput.timed(stage.batches(cursor)), cursor, mesh):
                step += 1
                with jax.profiler.StepTraceAnnotation("train", step_num=step):
                    state, metrics = train_step(state, item.batch, seed)
                throughput.count(
                    metrics, sequences=item.sequences, tokens=item.tokens, slots=item.slots
                )
                cursor = item.end
                pending.append(_Pending(step, item.start, metrics))
                progress.step(step)

                last = step == stage_end
                evaluation_due = last or (
                    config.evaluate_every and step % config.evaluate_every == 0
                )
                save_due = step % config.save_every == 0 or last
                log_due = step % config.log_every == 0 or evaluation_due
                # All hosts stop after the same step; asking the others waits for the device.
                if jax.process_count() == 1 or step % STEPS_BETWEEN_QUESTIONS == 0:
                    stopping = on_any(stop.received is not None)
                if len(pending) > STEPS_AHEAD:
                    jax.block_until_ready(pending[-STEPS_AHEAD].metrics)
                if log_due or evaluation_due or save_due or stopping:
                    values = _check(pending, checkpoints)
                    pending = []
                if log_due:
                    speed = throughput.read(step)
                    rate = optimizer.learning_rate(step - 1)
                    tracker.log(step, "train", values | {"learning_rate": float(rate)} | speed)
                    shown = f"loss {values['loss']:.4f}"
                    if speed:
                        shown += f" | {speed['sequences_per_second']:,.0f} {stage.rows}/s"
                    progress.metrics(shown)
                    if warning := throughput.input_warning(speed):
                        progress.say(f"step {step}: {warning}")
                evaluation = None
                if evaluation_due and stage.evaluate:
                    with throughput.paused():
                        found = run_evaluation(step, state, stage.evaluate)
                    return_freed_memory()
                    since_best = _evaluations_since_best(tracker, stage, stage_start)
                    if since_best == 0:  # of equal evaluations the first one counts as the best
                        evaluation = {"badness": stage.rank(found), "stage": number}
                        save_due = save_due or config.keep_best
                    if 0 < config.patience <= since_best:
                        reason = "patience"
                if stopping and step < total_steps:
                    reason = "stopped"
                if save_due or reason != "finished":
                    with throughput.paused():
                        if not all_finite(state.params):
                            raise _not_finite(step, item.start, "parameters", checkpoints)
                        tracker.sync()
                        checkpoints.save(state, cursor, saved_config, evaluation)
                if profiler.due():
                    jax.block_until_ready(metrics)
                    with throughput.paused():
                        profiler.toggle()
                if last or reason != "finished":
                    break
        checkpoints.wait()
        if reason == "stopped":
            signal_name = stop.received or "signal on another host"
            progress.say(f"{signal_name}: saved step {step}; the same command continues")
        if reason == "patience":
            progress.say(
                f"step {step}: {config.patience} evaluations without a new best on held-out data"
            )
        interrupted = on_any(stop.received is not None)
    return Outcome(state, reason, interrupted)


def _evaluations_since_best(tracker: Tracker, stage: Stage, stage_start: int) -> int:
    """How many evaluations of the stage came after its best; other stages cannot be compared.

    A score before the first step does not count: a new output layer may have it by luck. Only the
    first host's tracker knows the evaluations before a restart.
    """
    found = [
        stage.rank(row)
        for row in tracker.evaluations()
        if row["step"] > stage_start or (row["step"] == stage_start == 0 and stage.best == "loss")
    ]
    return of_first(len(found) - 1 - found.index(min(found)) if found else 0)


def _not_finite(
    step: int, position: Sequence[int] | None, what: str, checkpoints: Checkpoints
) -> NonFiniteLoss:
    """The error that stops a run because `what` is no longer finite."""
    checkpoints.wait()
    good = checkpoints.latest_step
    return NonFiniteLoss(
        f"step {step}: {what} not finite; the batch starts at data position "
        f"{position or 'start of the stage'}; this state is not saved, "
        f"{'there is no checkpoint yet' if good is None else f'step {good} is saved'}; start again "
        "in another work folder with a lower optimizer.learning_rate or more optimizer.warmup_steps"
    )


def _check(pending: Sequence[_Pending], checkpoints: Checkpoints) -> dict[str, float]:
    """Fetches and checks the metrics of all pending steps; returns those of the last step."""
    fetched = jax.device_get([item.metrics for item in pending])
    for item, metrics in zip(pending, fetched, strict=True):
        loss, norm = float(metrics["loss"]), float(metrics["gradient_norm"])
        if not (math.isfinite(loss) and math.isfinite(norm)):
            what = f"loss {loss}, gradient norm {norm}:"
            raise _not_finite(item.step, item.start, what, checkpoints)
    return {name: float(value) for name, value in fetched[-1].items()}
