"""Learning curves as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np


def plot_curves(
    rows: Sequence[dict[str, Any]], path: Path, unigram_entropy: float | None = None
) -> None:
    """Draws losses, accuracies and the learning rate over the steps.

    Args:
      rows: rows of metrics.jsonl.
      path: the .png to write, aside first and then renamed; none is written without rows.
      unigram_entropy: drawn beside the masked-LM loss, in nats.
    """
    train = [row for row in rows if row["split"] == "train"]
    held_out = [row for row in rows if row["split"] == "eval"]
    names = [
        name
        for name in (
            "masked_lm_loss",
            "masked_lm_accuracy",
            "next_sentence_loss",
            "next_sentence_accuracy",
            "sentence_order_loss",
            "sentence_order_accuracy",
            "learning_rate",
            "gradient_norm",
        )
        if any(name in row for row in rows)
    ]
    if not names:
        return
    figure, axes = plt.subplots(
        -(-len(names) // 2), 2, figsize=(10, 9), sharex=True, layout="constrained", squeeze=False
    )
    for name, axis in zip(names, axes.flat, strict=False):
        steps = [row["step"] for row in train]
        values = np.array([row[name] for row in train])
        axis.plot(steps, values, color="tab:blue", alpha=0.25, linewidth=1)
        axis.plot(steps, _smooth(values), color="tab:blue", label="training, smoothed")
        points = [(row["step"], row[name]) for row in held_out if name in row]
        if points:
            axis.plot(*zip(*points, strict=True), "o-", color="tab:orange", label="held-out")
        if name == "masked_lm_loss" and unigram_entropy is not None:
            axis.axhline(unigram_entropy, color="grey", linestyle="--", label="unigram entropy")
        axis.set_title(name.replace("_", " "))
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("step")
    axes[0, 0].legend()
    aside = path.with_name(path.name + ".tmp")
    figure.savefig(aside, format="png", dpi=120)
    plt.close(figure)
    aside.rename(path)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Mean over a centred window of a twentieth of the points."""
    half = max(len(values) // 40, 1)
    total = np.concatenate([np.zeros(1), np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)
