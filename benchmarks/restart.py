"""How much longer a restart takes to its first step than a fresh start.

    python -m benchmarks.restart --corpus corpora/embedded

Both are whole processes of `run_pretrain.py`, from the command to the first row of metrics.jsonl.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "run_pretrain.py"


def seconds_to_a_row(command: list[str], log: Path) -> tuple[float, int]:
    """Starts the command, stops it at its first new training row.

    Returns:
      (seconds until the row, its step).
    """
    known = _training_steps(log)
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(steps := _training_steps(log)) <= len(known):
        if process.poll() is not None:
            raise SystemExit(f"{' '.join(command)} ended with exit code {process.returncode}")
        time.sleep(0.01)
    seconds = time.perf_counter() - start
    process.terminate()  # saves, so that the next process goes on from here
    process.wait()
    return seconds, steps[-1]


def _training_steps(log: Path) -> list[int]:
    if not log.is_file():
        return []
    lines = [line for line in log.read_text().splitlines() if line.endswith("}")]
    rows = [json.loads(line) for line in lines]
    return [row["step"] for row in rows if row["split"] == "train"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    vocab_size = json.loads(Path(arguments.corpus, "corpus.json").read_text())["vocab_size"]
    fresh, restarted = [], []
    for _ in range(arguments.runs):
        with tempfile.TemporaryDirectory() as work_dir:
            command = [
                sys.executable, str(SCRIPT), "tiny", f"--corpus={arguments.corpus}",
                f"--work-dir={work_dir}", f"--model.vocab-size={vocab_size}",
                "--phases.0.batch-size=32", "--loop.log-every=1", "--evaluation-examples=0",
            ]  # fmt: skip
            log = Path(work_dir, "metrics.jsonl")
            fresh.append(seconds_to_a_row(command, log)[0])
            seconds, step = seconds_to_a_row(command, log)
            restarted.append(seconds)
            print(f"fresh {fresh[-1]:.1f} s, restart to step {step} {seconds:.1f} s", flush=True)
    difference = statistics.median(b - a for a, b in zip(fresh, restarted, strict=True))
    print(f"median difference {difference:+.1f} s over {arguments.runs} pairs")


if __name__ == "__main__":
    main()
