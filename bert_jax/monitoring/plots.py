"""Plots of learning curves and confusion matrices."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure  # not pyplot, which another thread may be importing

OF_EVERY_RUN = {"learning_rate": "learning rate", "gradient_norm": "gradient norm"}
MOST_CLASSES = 40  # in a confusion matrix that is still readable


def plot_curves(
    rows: Sequence[dict[str, Any]],
    path: Path,
    titles: Mapping[str, str],
    unigram_entropy: float | None = None,
) -> None:
    """Draws losses, scores, learning rate and gradient norm over the steps.

    Args:
      rows: of metrics.jsonl.
      path: the .png to write, if there are any rows.
      titles: of the metrics by their names; those that occur get a plot each.
      unigram_entropy: in nats, drawn with the masked-LM loss.
    """
    train = [row for row in rows if row["split"] == "train"]
    held_out = [row for row in rows if row["split"] == "eval"]
    titles = {**titles, **OF_EVERY_RUN}
    names = [name for name in titles if any(name in row for row in rows)]
    if not names:
        return
    figure = Figure(figsize=(10, 9), layout="constrained")
    axes = figure.subplots(-(-len(names) // 2), 2, sharex=True, squeeze=False)
    for name, axis in zip(names, axes.flat, strict=False):
        trained = [(row["step"], row[name]) for row in train if name in row]
        if trained:
            steps, values = np.array(trained).T
            axis.plot(steps, values, color="tab:blue", alpha=0.25, linewidth=1)
            axis.plot(steps, _smooth(values), color="tab:blue", label="training, smoothed")
        points = [(row["step"], row[name]) for row in held_out if name in row]
        if points:
            axis.plot(*zip(*points, strict=True), "o-", color="tab:orange", label="held-out")
        if name == "masked_lm_loss" and unigram_entropy is not None:
            axis.axhline(unigram_entropy, color="grey", linestyle="--", label="unigram entropy")
        axis.set_title(titles[name])
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("step")
    axes[0, 0].legend()
    _save(figure, path)


def plot_confusion(true: Sequence[str], predicted: Sequence[str], path: Path) -> None:
    """Draws how often each class was predicted for each true class.

    `true` and `predicted` have a class for each example. Only the most frequent classes are shown.
    """
    counts = Counter([*true, *predicted])
    classes = sorted(name for name, _ in counts.most_common(MOST_CLASSES))
    place = {name: number for number, name in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    for row, column in zip(true, predicted, strict=True):
        if row in place and column in place:
            matrix[place[row], place[column]] += 1
    side = 2.5 + 0.45 * len(classes)
    figure = Figure(figsize=(side, side), layout="constrained")
    axis = figure.subplots()
    axis.imshow(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0)
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            shade = "white" if count > 0.6 * matrix[row].sum() else "black"
            axis.text(column, row, str(count), ha="center", va="center", color=shade, fontsize=8)
    # Dollar signs do not start formulas here.
    axis.set_xticks(range(len(classes)), classes, rotation=90, parse_math=False)
    axis.set_yticks(range(len(classes)), classes, parse_math=False)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    aside = path.with_name(path.name + ".tmp")
    with warnings.catch_warnings():
        # Characters that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(aside, format="png", dpi=120)
    aside.rename(path)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Moving average over a centred window of a twentieth of the points."""
    half = max(len(values) // 40, 1)
    total = np.concatenate([np.zeros(1), np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)
