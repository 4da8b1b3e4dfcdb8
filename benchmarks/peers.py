"""Times our train step against others': the same model and batch, in turns in one run.

Each side is a process of its own (`step_bert_jax`, `step_transformers`), so that neither shares an
allocator or threads with the other. They live side by side and take turns of a few steps; each
round gives one ratio, and the median of those is quoted. `cpu` and `gpu` say what is compared.
"""

import contextlib
import dataclasses
import json
import math
import os
import select
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.worker import FAILED, MISSING, OUT_OF_MEMORY
from bert_jax.interchange.configs import config_to_hugging_face
from bert_jax.models.bert import BertConfig
from bert_jax.models.flops import model_flops, peak_flops

ROOT = Path(__file__).parent.parent
OURS = "bert_jax"
# Fresh logits are not quite 0: their variance, about H 0.02^2, adds half of itself to the loss.
FIRST_LOSS_TOLERANCE = 0.5
LEAST_FALL = 0.1


class MissingDevice(Exception):
    """What a side needs is not on this machine."""


class NotComparable(Exception):
    """A side failed, or the sides do not do the same."""


class OutOfMemory(Exception):
    """A side had too little memory."""


class TimeUp(Exception):
    """The time budget ended first."""


@dataclasses.dataclass(frozen=True)
class Workload:
    """What both sides train.

    Attributes:
      name: of the model.
      model: its sizes and the compute dtype.
      sequence_length: L; all sequences are full.
      max_predictions: K per sequence.
      batch_sizes: tried one after the other until all sides have the memory.
      learning_rate: constant; the loss of the one batch must fall within the few steps.
      target_ratio: the times of its peers' speed that ours should have.
      target_mfu: the MFU that ours should have, if there is such a target.
    """

    name: str
    model: BertConfig
    sequence_length: int
    max_predictions: int
    batch_sizes: tuple[int, ...]
    learning_rate: float = 1e-4
    target_ratio: float | None = None
    target_mfu: float | None = None

    def task(self, batch_size: int, platform: str) -> dict[str, Any]:
        """What a side is told, ready for JSON.

        Args:
          batch_size: sequences per step.
          platform: "cpu" or "gpu".
        """
        return {
            "platform": platform,
            "model": dataclasses.asdict(self.model),
            "hugging_face": config_to_hugging_face(self.model),
            "batch_size": batch_size,
            "sequence_length": self.sequence_length,
            "max_predictions": self.max_predictions,
            "learning_rate": self.learning_rate,
        }


@dataclasses.dataclass(frozen=True)
class Side:
    """A program that trains.

    Attributes:
      name: in the results; that of ours is `OURS`.
      module: started by `python -m`.
      options: joined to the task, for this side alone.
      environment: variables set for it.
    """

    name: str
    module: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Worker:
    """A side's running process; `worker.serve` says what it is asked and what it answers.

    Args:
      side: what to start.
      deadline: of `time.monotonic`, for all answers.
    """

    def __init__(self, side: Side, deadline: float):
        self._name = side.name
        self._deadline = deadline
        self._process = subprocess.Popen(
            [sys.executable, "-m", side.module],
            cwd=ROOT,
            env={**os.environ, **side.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a group of its own, which ends as one
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Sends a message and waits for its answer.

        Raises:
          TimeUp, OutOfMemory, MissingDevice, NotComparable: there is none.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # reading tells what happened
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        left = max(self._deadline - time.monotonic(), 0.0)
        if not select.select([self._process.stdout], [], [], left)[0]:
            raise TimeUp("the time budget ended")
        line = self._process.stdout.readline()
        if not line:
            raise NotComparable(f"{self._name} ended with exit code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            kinds = {OUT_OF_MEMORY: OutOfMemory, MISSING: MissingDevice, FAILED: NotComparable}
            raise kinds[answer["kind"]](f"{self._name}: {answer['error']}")
        return answer


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How sides are compared.

    Attributes:
      sides: ours and its peers.
      platform: "cpu" or "gpu".
      rounds: number of turns of each side; every other round goes backwards.
      steps: timed steps in a turn.
      deadline: of `time.monotonic`.
    """

    sides: Sequence[Side]
    platform: str
    rounds: int
    steps: int
    deadline: float

    def largest(self, workload: Workload) -> dict[str, Any]:
        """The row of `run` for the first batch size that all sides have the memory for.

        Raises:
          OutOfMemory: no batch size is small enough.
          TimeUp, MissingDevice, NotComparable: as in `run`.
        """
        for batch_size in workload.batch_sizes:
            try:
                return self.run(workload, batch_size)
            except OutOfMemory as error:
                failure = f"batch {batch_size} is too much for {error}"
                print(f"{workload.name} {workload.sequence_length}: {failure}", file=sys.stderr)
        raise OutOfMemory(failure)

    def run(self, workload: Workload, batch_size: int) -> dict[str, Any]:
        """Times all sides on one workload.

        Returns:
          A row of the results: sizes, figures of each side, and in `ratios`, for each peer, the
          median over the rounds of its time over ours.

        Raises:
          TimeUp, OutOfMemory, MissingDevice, NotComparable: there are no figures.
        """
        task = workload.task(batch_size, self.platform)
        seconds: dict[str, list[float]] = {side.name: [] for side in self.sides}
        last_losses: dict[str, float] = {}
        with contextlib.ExitStack() as stack:
            # All start, and import, at the same time; they compile one after the other.
            workers = {
                side.name: stack.enter_context(Worker(side, self.deadline)) for side in self.sides
            }
            facts = {
                side.name: workers[side.name].ask({**task, **side.options}) for side in self.sides
            }
            for turn in range(self.rounds):
                for name in list(workers)[:: -1 if turn % 2 else 1]:
                    answer = workers[name].ask({"steps": self.steps})
                    seconds[name].append(answer["seconds"] / self.steps)
                    last_losses[name] = answer["loss"]
        check_training(workload.model.vocab_size, facts, last_losses)
        return _row(workload, batch_size, facts, seconds, last_losses)


def check_training(
    vocab_size: int,
    facts: Mapping[str, Mapping[str, Any]],
    last_losses: Mapping[str, float],
) -> None:
    """Refuses figures of sides that do not really train, or not the same model.

    Args:
      vocab_size: V; a fresh model's loss is about ln V + ln 2.
      facts: of each side, with `parameters` (how many) and `first_loss`, before any update.
      last_losses: of each side, on the same batch after all steps.

    Raises:
      NotComparable: a loss begins elsewhere or does not fall, or the numbers of parameters differ.
    """
    expected = math.log(vocab_size) + math.log(2)
    for name, fact in facts.items():
        first, last = fact["first_loss"], last_losses[name]
        # Written so that NaN fails.
        if not abs(first - expected) <= FIRST_LOSS_TOLERANCE:
            raise NotComparable(
                f"{name}: the first loss is {first:.3f}; a fresh model's is about ln V + ln 2 = "
                f"{expected:.3f}"
            )
        if not last <= first - LEAST_FALL:
            raise NotComparable(
                f"{name}: the loss of one and the same batch went from {first:.3f} to {last:.3f}; "
                f"it must fall by {LEAST_FALL} (with more --steps or --rounds, if it trains)"
            )
    parameters = {name: fact["parameters"] for name, fact in facts.items()}
    if len(set(parameters.values())) > 1:
        raise NotComparable(f"the models differ in their numbers of parameters: {parameters}")


def _row(
    workload: Workload,
    batch_size: int,
    facts: Mapping[str, Mapping[str, Any]],
    seconds: Mapping[str, Sequence[float]],
    last_losses: Mapping[str, float],
) -> dict[str, Any]:
    flops = model_flops(
        workload.model,
        batch_size=batch_size,
        sequence_length=workload.sequence_length,
        max_predictions=workload.max_predictions,
    )
    peak = peak_flops(facts[OURS]["device"], workload.model.dtype)

    def figures(name: str) -> dict[str, Any]:
        median = statistics.median(seconds[name])
        return {
            "sequences_per_second": batch_size / median,
            "milliseconds_per_step": 1e3 * median,
            "mfu": flops / median / peak if peak else None,
            "seconds_per_step_by_round": seconds[name],
            "set_up_seconds": facts[name]["seconds"],
            "first_loss": facts[name]["first_loss"],
            "last_loss": last_losses[name],
            "device": facts[name]["device"],
            "versions": facts[name]["versions"],
        }

    return {
        "model": workload.name,
        "dtype": workload.model.dtype,
        "parameters": facts[OURS]["parameters"],
        "batch_size": batch_size,
        "sequence_length": workload.sequence_length,
        "max_predictions": workload.max_predictions,
        "model_flops_per_step": flops,
        "sides": {name: figures(name) for name in seconds},
        "ratios": {
            name: statistics.median(
                theirs / ours for theirs, ours in zip(values, seconds[OURS], strict=True)
            )
            for name, values in seconds.items()
            if name != OURS
        },
        "target_ratio": workload.target_ratio,
        "target_mfu": workload.target_mfu,
    }
