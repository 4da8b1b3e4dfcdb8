"""Held-out masked-LM losses of several runs side by side, as a table and a picture.

python -m benchmarks.held_out_curves runs/a runs/b --output curves.png
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from bert_jax.monitoring.tracker import read_metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    names = [run.name for run in arguments.runs]
    curves = [
        {
            row["step"]: row["masked_lm_loss"]
            for row in read_metrics(run / "metrics.jsonl")
            if row["split"] == "eval"
        }
        for run in arguments.runs
    ]
    print(f"| step | {' | '.join(names)} |")
    print("|---" * (1 + len(names)) + "|")
    for step in sorted(set().union(*curves)):
        cells = (f"{curve[step]:.3f}" if step in curve else "" for curve in curves)
        print(f"| {step:,} | {' | '.join(cells)} |")
    figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
    for name, curve in zip(names, curves, strict=True):
        axis.plot(list(curve), list(curve.values()), "o-", label=name)
    axis.set_xlabel("step")
    axis.set_ylabel("held-out masked-LM loss, nats")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(arguments.output, dpi=100)


if __name__ == "__main__":
    main()
