"""A side of `benchmarks.peers` that computes nothing: `python -m tests.benchmarks.fake_side`.

Options of the task: `name` and `log`, a file that gets the name at each order; `largest_batch`,
above which memory is short; `fails`, "missing", "crash", "exit" or "hang".
"""

import math
import os
import time

from benchmarks.worker import Missing, serve


def set_up(task):
    loss = math.log(2 * task["model"]["vocab_size"])
    fails = task.get("fails")
    if task["batch_size"] > task.get("largest_batch", math.inf):
        raise MemoryError(f"batch {task['batch_size']}\nand a long story")
    if fails == "missing":
        raise Missing("there is no such device")
    if fails == "crash":
        raise ValueError("nothing works")
    if fails == "exit":
        os._exit(3)
    if fails == "hang":
        time.sleep(1000)

    def take_steps(steps):
        nonlocal loss
        print("a library's chatter")
        before, loss = loss, loss * 0.9**steps
        with open(task["log"], "a") as file:
            file.write(f"{task['name']} {steps}\n")
        return before

    return take_steps, {
        "parameters": 7,
        "device": "NVIDIA H200",
        "versions": {task["name"]: "1.0"},
    }


if __name__ == "__main__":
    serve(set_up, lambda error: isinstance(error, MemoryError))
