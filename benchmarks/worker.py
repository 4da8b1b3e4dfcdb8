"""What the two programs that `peers` compares have in common: the batch, and how they take orders.

Imports neither jax nor torch, so that each program holds only its own.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

# Kinds of errors.
OUT_OF_MEMORY, MISSING, FAILED = "out of memory", "missing", "failed"
# Takes optimizer steps, waits until the device has done them; gives the loss of the last.
TakeSteps = Callable[[int], float]


class Missing(Exception):
    """What the side needs is not on this machine: one line for the person at the keyboard."""


def synthetic_batch(task: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Full sequences of uniform ids in the contract of `data_pipeline/pretraining/collate.py`.

    The second half of each sequence is sentence B; the positions to predict are distinct.

    Args:
      task: `Workload.task`.
    """
    batch_size, sequence_length = task["batch_size"], task["sequence_length"]
    max_predictions, vocab_size = task["max_predictions"], task["model"]["vocab_size"]
    random = np.random.default_rng(0)
    shape = (batch_size, sequence_length)
    positions = random.permuted(np.tile(np.arange(sequence_length), (batch_size, 1)), axis=1)
    token_types = np.arange(sequence_length) >= sequence_length // 2
    predictions = (batch_size, max_predictions)
    return {
        "input_ids": random.integers(0, vocab_size, shape, np.int32),
        "token_type_ids": np.tile(token_types, (batch_size, 1)).astype(np.int32),
        "attention_mask": np.ones(shape, np.int32),
        "masked_positions": np.sort(positions[:, :max_predictions], axis=1).astype(np.int32),
        "masked_labels": random.integers(0, vocab_size, predictions, np.int32),
        "masked_weights": np.ones(predictions, np.float32),
        "next_sentence_labels": random.integers(0, 2, batch_size, np.int32),
    }


def serve(
    set_up: Callable[[dict[str, Any]], tuple[TakeSteps, dict[str, Any]]],
    is_out_of_memory: Callable[[Exception], bool],
) -> None:
    """Answers each line of JSON on stdin with one on stdout, until stdin ends.

    The first line is the task: the model is made and takes its first steps, which compile it; the
    answer has `first_loss` (before any update), `seconds` and what `set_up` tells of itself. Every
    later line is {"steps": n}: one more step to get going, then n steps on the clock; the answer
    has their `seconds` and the `loss` of the last. In place of an answer there may be
    {"error": line, "kind": one of the three}, after which the program ends.

    Args:
      set_up: task -> (what takes steps, facts of the model and the machine).
      is_out_of_memory: whether an exception means that a smaller batch would do.
    """
    # What libraries print goes to stderr; the answers keep stdout for themselves.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)

        def answer(values: dict[str, Any]) -> None:
            answers.write(json.dumps(values) + "\n")
            answers.flush()

        try:
            task = json.loads(sys.stdin.readline())
            start = time.perf_counter()
            take_steps, facts = set_up(task)
            first_loss = take_steps(1)
            take_steps(2)
            answer({"first_loss": first_loss, "seconds": time.perf_counter() - start, **facts})
            for line in sys.stdin:
                steps = json.loads(line)["steps"]
                take_steps(1)
                start = time.perf_counter()
                loss = take_steps(steps)
                answer({"seconds": time.perf_counter() - start, "loss": loss})
        except Missing as error:
            answer({"error": str(error), "kind": MISSING})
        except Exception as error:
            kind = OUT_OF_MEMORY if is_out_of_memory(error) else FAILED
            if kind == FAILED:
                traceback.print_exc()
            line = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
            answer({"error": line, "kind": kind})
