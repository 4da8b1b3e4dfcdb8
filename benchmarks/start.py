"""How quickly the scripts of two checkouts start, measured in turns.

    python -m benchmarks.start BASE OTHER

The first checkout makes a demo that is interrupted and a small fine-tuning; both then read copies
of them. Shown are medians, and the ratio of the second checkout to the first:

- CPU seconds of `--help` and of a mistyped option, of each script;
- seconds from the command to the third step of the continued demo;
- seconds of `run_predict.py` on one text, of either model.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

SCRIPTS = {
    "run_pretrain.py": [],
    "run_finetune.py": ["classify"],
    "run_predict.py": ["classify"],
    "run_convert.py": ["to-hf"],
}
DEMO = ["run_pretrain.py", "demo", "--loop.log-every=1", "--loop.save-every=20"]
TEXT = "The function returns a [MASK] ."


class Side:
    """A checkout, and the folder that its scripts work in."""

    def __init__(self, checkout: Path, folder: Path):
        self.checkout, self.folder = checkout, folder

    def start(self, words: Sequence[str]) -> subprocess.Popen[bytes]:
        """Starts a script of the checkout."""
        return subprocess.Popen(
            [sys.executable, self.checkout / words[0], *words[1:]],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(os.environ) | {"PYTHONPATH": str(self.checkout)},
        )

    def run(self, words: Sequence[str], expected: int = 0) -> tuple[float, float]:
        """Seconds and CPU seconds of a script."""
        start = time.perf_counter()
        process = self.start(words)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != expected:
            raise SystemExit(f"{self.checkout}: {words} ended with {process.returncode}")
        return time.perf_counter() - start, usage.ru_utime + usage.ru_stime

    def steps(self) -> list[int]:
        """The training steps that the demo has logged."""
        path = self.folder / "runs/demo/metrics.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        rows = [json.loads(line) for line in lines if line.endswith("}")]
        return [row["step"] for row in rows if row["split"] == "train"]

    def until(
        self, step: int, words: Sequence[str] = DEMO
    ) -> tuple[float, subprocess.Popen[bytes]]:
        """Seconds until the demo has logged a step; it goes on."""
        start = time.perf_counter()
        process = self.start(DEMO)
        while step not in self.steps():
            if process.poll() is not None:
                raise SystemExit(f"{self.checkout}: the demo ended with {process.returncode}")
            time.sleep(0.01)
        return time.perf_counter() - start, process


def prepare(side: Side) -> int:
    """Makes the interrupted demo and the fine-tuning; returns the step that was saved."""
    _, process = side.until(25)
    process.terminate()  # it saves
    process.wait()
    rows = [f"the {animal} sees a {thing}\t{animal}" for animal in "ab" for thing in "xyz"]
    for name in ("train", "dev"):
        (side.folder / f"{name}.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    side.run(
        ["run_finetune.py", "classify", "--init-from=runs/demo", "--data=.", "--epochs=1",
         "--sequence-length=32", "--work-dir=runs/classify"]
    )  # fmt: skip
    return max(side.steps())


def third_step(side: Side, saved: Path, step: int) -> float:
    """Seconds to the third step after the one that was saved."""
    shutil.rmtree(side.folder / "runs/demo")
    shutil.copytree(saved, side.folder / "runs/demo")
    seconds, process = side.until(step + 3)
    process.kill()
    process.wait()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkouts", type=Path, nargs=2, metavar=("BASE", "OTHER"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where what was prepared is, or shall stay")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as private:
        folder = (arguments.folder or Path(private)).resolve()
        sides = [
            Side(checkout.resolve(), folder / name)
            for checkout, name in zip(arguments.checkouts, ("base", "other"), strict=True)
        ]
        saved = folder / "base/runs/saved"
        if not saved.is_dir():
            sides[0].folder.mkdir(parents=True)
            prepare(sides[0])
            shutil.copytree(sides[0].folder / "runs/demo", saved)
            shutil.copytree(sides[0].folder, sides[1].folder)
        rows = (json.loads(line) for line in (saved / "metrics.jsonl").read_text().splitlines())
        step = max(row["step"] for row in rows)
        ask = "run_predict.py"
        measures: dict[str, Callable[[Side], float]] = {}
        for script, words in SCRIPTS.items():
            for option, code in (("--help", 0), ("--mistyped", 2)):
                command = [script, *words, option]
                measures[" ".join(command) + ", CPU"] = lambda side, command=command, code=code: (
                    side.run(command, code)[1]
                )
        measures["third step of a continued demo"] = lambda side: third_step(side, saved, step)
        measures["run_predict.py fill-mask"] = lambda side: side.run(
            [ask, "fill-mask", "--checkpoint=runs/saved", TEXT]
        )[0]
        measures["run_predict.py classify"] = lambda side: side.run(
            [ask, "classify", "--checkpoint=runs/classify", "a sees x"]
        )[0]
        print("| | base, s | other, s | ratio |\n|---|---|---|---|")
        for name, measure in measures.items():
            found = [[measure(side) for side in sides] for _ in range(arguments.runs)]
            base, other = (statistics.median(values) for values in zip(*found, strict=True))
            print(f"| {name} | {base:.2f} | {other:.2f} | {other / base:.2f} |", flush=True)


if __name__ == "__main__":
    main()
