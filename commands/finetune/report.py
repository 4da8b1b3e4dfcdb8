"""The report of a fine-tuning: tables, predictions, pictures and the model card."""

import json
import shlex
import statistics
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from flax import traverse_util
from rich.table import Table

from bert_jax import __version__
from bert_jax.tasks.task import Prediction, Task
from commands.finetune.run import Run
from configs.finetune import FinetuneConfig
from data_pipeline.files import json_lines, write_text

# The fields of an evaluation's row in metrics.jsonl that are not scores.
_NOT_SCORES = {"step", "split", "time", "loss"}
# Settings that the model card always lists; of the others, only those that are not the defaults.
_ASKED_FOR = {"sequence_length", "batch_size", "epochs", "seeds", "method.name"} | {
    f"optimizer.{name}" for name in ("name", "learning_rate", "warmup_proportion", "weight_decay")
}


def scores_of(row: Mapping[str, Any]) -> dict[str, float]:
    """The scores of an evaluation's row."""
    return {name: value for name, value in row.items() if name not in _NOT_SCORES}


def epochs_table(rows: Sequence[Mapping[str, Any]], steps_per_epoch: int, best_step: int) -> Table:
    """The scores of each epoch, from the rows of metrics.jsonl, with the best epoch marked."""
    evaluations = [row for row in rows if row["split"] == "eval"]
    title = "Scores on the dev set (* the best epoch, which is kept; 0 is before training)"
    table = Table(title=title, title_justify="left")
    for name in ("epoch", "step", "loss", *scores_of(evaluations[-1])):
        table.add_column(name, justify="right")
    for row in evaluations:
        epoch = f"{row['step'] / steps_per_epoch:g}" + (" *" if row["step"] == best_step else "")
        cells = [f"{value:.4f}" for value in (row["loss"], *scores_of(row).values())]
        table.add_row(epoch, str(row["step"]), *cells)
    return table


def spread(results: Mapping[int, Mapping[str, float]]) -> dict[str, dict[str, dict[str, float]]]:
    """The scores by seed, and their mean, sample standard deviation and best, as JSON values."""
    columns = {
        name: [scores[name] for scores in results.values()] for name in next(iter(results.values()))
    }
    return {
        "seeds": {str(seed): dict(scores) for seed, scores in results.items()},
        "spread": {
            "mean": {name: statistics.mean(values) for name, values in columns.items()},
            "deviation": {name: statistics.stdev(values) for name, values in columns.items()},
            "best": {name: max(values) for name, values in columns.items()},
        },
    }


def spread_table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    """The result of `spread` as a table."""
    names = list(found["spread"]["mean"])
    table = Table(title="Scores of the best epoch", title_justify="left")
    for name in ("seed", *names):
        table.add_column(name, justify="right")
    for title, scores in (*found["seeds"].items(), *found["spread"].items()):
        if title == "mean":
            table.add_section()
        table.add_row(title, *(f"{scores[name]:.4f}" for name in names))
    return table


def write_report(
    run: Run,
    rows: Sequence[dict[str, Any]],
    predictions: Mapping[str, Sequence[Prediction]],
    scores: Mapping[str, Mapping[str, float]],
) -> None:
    """Writes predictions, pictures and the model card into the work folder of one seed.

    `rows` are those of metrics.jsonl; `predictions` and `scores` are by split, "dev" and "test".
    """
    work_dir, task = Path(run.config.work_dir), run.task
    for name, found in predictions.items():
        prefix = "" if name == "dev" else f"{name}_"
        write_text(work_dir / f"{prefix}predictions.jsonl", json_lines(found))
    if "test" in predictions and (submission := task.submission(predictions["test"])):
        write_text(work_dir / submission[0], submission[1])
    from bert_jax.monitoring.plots import plot_confusion, plot_curves  # imports matplotlib

    titles = {name: name.replace("_", " ") for name in ("loss", *scores["dev"])}
    plot_curves(rows, work_dir / "curves.png", titles)
    confusion = task.confusion(predictions["dev"], run.data.dev.examples)
    if confusion:
        plot_confusion(*confusion, work_dir / "confusion.png")
    write_text(work_dir / "README.md", _model_card(run, scores, confusion is not None))


def _model_card(run: Run, scores: Mapping[str, Mapping[str, float]], confusion: bool) -> str:
    config, task, data = run.config, run.task, run.data
    names = list(scores["dev"])
    lines = [
        f"# {task.name}",
        "",
        f"{'Trained' if config.from_scratch else 'Fine-tuned'} from {run.origin}.",
        "",
        "## Scores",
        "",
        f"| | {' | '.join(names)} |",
        "|---" * (len(names) + 1) + "|",
    ]
    for split, found in scores.items():
        cells = [f"{found[name]:.4f}" if name in found else "-" for name in names]
        lines.append(f"| {split} | {' | '.join(cells)} |")
    lines += ["", f"Of the epoch with the best {task.best} on the dev set.", ""]
    if confusion:
        lines += ["![confusion matrix](confusion.png)", ""]
    lines += ["![curves](curves.png)", "", "## Data", ""]
    for name, part in (("train", data.train), ("dev", data.dev), ("test", data.test)):
        if part is not None:
            cut = f", {part.features.cut:,} cut" if part.features.cut else ""
            lines.append(f"- {name}: {len(part.examples):,} examples of {part.source}{cut}")
    if data.labels:
        shown = ", ".join(data.labels[:50]) + (" ..." if len(data.labels) > 50 else "")
        lines.append(f"- classes: {shown}")
    lines += ["", "## Made by", "", "```", run.command, "```", ""]
    lines.append(f"- bert_jax {__version__}")
    lines += [f"- {package} {metadata.version(package)}" for package in ("jax", "flax", "optax")]
    lines += ["", "| setting | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in _settings(config).items()]
    lines += ["", "All others have their defaults; config.json has every one.", ""]
    asked = ask_command(task, config.work_dir)
    return "\n".join([*lines, "## How to ask it", "", "```", asked, "```", ""])


def ask_command(task: Task[Any], work_dir: Path | str) -> str:
    """The command that queries the model of a work folder."""
    folder = shlex.quote(str(work_dir))
    return f"python run_predict.py {task.command} --checkpoint {folder} {task.usage}"


def _settings(config: FinetuneConfig) -> dict[str, str]:
    own, defaults = (
        traverse_util.flatten_dict(each.resolved(), sep=".")
        for each in (config, FinetuneConfig(config.task))
    )
    return {
        name: json.dumps(value, ensure_ascii=False)
        for name, value in own.items()
        if name in _ASKED_FOR or value != defaults.get(name)
    }
