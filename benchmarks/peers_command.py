"""What the commands `cpu` and `gpu` share: their options, the results file and the table."""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import (
    OURS,
    Comparison,
    MissingDevice,
    NotComparable,
    OutOfMemory,
    Side,
    TimeUp,
    Workload,
)
from bert_jax.bounds import check_bounds
from bert_jax.errors import UserError
from bert_jax.models.bert import BertConfig
from data_pipeline.files import write_json


def make_parser(
    description: str, *, rounds: int, steps: int, minutes: float
) -> argparse.ArgumentParser:
    """The options of both commands.

    Args:
      description: first line of the help.
      rounds: default of `--rounds`.
      steps: default of `--steps`.
      minutes: default of `--minutes`.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--only", nargs="+", help="names of models, or model-length", default=[])
    parser.add_argument("--rounds", type=_positive, default=rounds, help="turns of each side")
    parser.add_argument("--steps", type=_positive, default=steps, help="timed steps in a turn")
    parser.add_argument(
        "--minutes", type=_minutes, default=minutes, help="time budget; the rest is then not run"
    )
    parser.add_argument("--output", type=Path, help="the results as JSON")
    parser.add_argument(
        "--set",
        nargs="+",
        type=_setting,
        default=[],
        metavar="NAME=VALUE",
        help="fields of bert_jax.models.bert.BertConfig, for our side alone",
    )
    return parser


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def _minutes(text: str) -> float:
    if not 0 <= (value := float(text)) <= 1e4:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 10,000")
    return value


def _setting(text: str) -> tuple[str, Any]:
    """A field of `BertConfig` and its value, which is JSON or else a string."""
    name, _, value = text.partition("=")
    fields = [field.name for field in dataclasses.fields(BertConfig)]
    if name not in fields:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(fields)}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def run(
    parser: argparse.ArgumentParser,
    arguments: argparse.Namespace,
    workloads: Sequence[Workload],
    sides: Sequence[Side],
    *,
    platform: str,
    device: str | None = None,
) -> None:
    """Compares the sides on the workloads, one after the other; prints a table, writes the results.

    The results are a JSON object: `rows` of `Comparison.run`, `not_run` with the reasons, and what
    was asked for. They are written after each workload, so that an interruption loses one at most.

    Args:
      parser: for mistakes in the arguments.
      arguments: those of `make_parser`.
      workloads: `--only` chooses among them.
      sides: ours first; `--set` is added to it.
      platform: "cpu" or "gpu".
      device: its name, if the libraries don't know it.

    Raises:
      SystemExit: with code 2 for a mistake or a device that is not there; with code 1 where a side
        failed, or did not train, or no workload was run.
    """
    workloads = _chosen(parser, arguments, workloads)
    model_settings = dict(arguments.set)
    ours = dataclasses.replace(
        sides[0], options={**sides[0].options, "model_settings": model_settings}
    )
    comparison = Comparison(
        [ours, *sides[1:]],
        platform,
        arguments.rounds,
        arguments.steps,
        time.monotonic() + 60 * arguments.minutes,
    )
    results: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "python": sys.version.split()[0],
        "device": device,
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        "model_settings": model_settings,
        "rows": [],
        "not_run": [],
    }
    failed = False
    for workload in workloads:
        try:
            row = comparison.largest(workload)
        except MissingDevice as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        except (OutOfMemory, TimeUp, NotComparable) as error:
            failed |= isinstance(error, NotComparable)
            results["not_run"].append(
                {
                    "model": workload.name,
                    "sequence_length": workload.sequence_length,
                    "reason": str(error),
                }
            )
        else:
            results["rows"].append(row)
            results["device"] = device or row["sides"][OURS]["device"]
            print("\n".join(_row_lines(row)), file=sys.stderr, flush=True)
        if arguments.output:
            write_json(arguments.output, results)
    print("\n".join(table(results)))
    if failed or not results["rows"]:
        reasons = "; ".join(_not_run(entry) for entry in results["not_run"])
        raise SystemExit(f"error: {reasons}")


def _chosen(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, workloads: Sequence[Workload]
) -> list[Workload]:
    """The workloads that `--only` names; refuses what is wrong with the arguments."""
    names = {w: {w.name, f"{w.name}-{w.sequence_length}"} for w in workloads}
    known = dict.fromkeys(name for w in workloads for name in sorted(names[w]))
    for name in arguments.only:
        if name not in known:
            parser.error(f"--only {name}: there are {', '.join(known)}")
    if arguments.output and not arguments.output.parent.is_dir():
        parser.error(f"--output {arguments.output}: its folder is not there; make it first")
    chosen = [w for w in workloads if not arguments.only or names[w] & set(arguments.only)]
    try:
        for workload in chosen:
            model = dataclasses.replace(workload.model, **dict(arguments.set))
            check_bounds(model)
            model.validate()
    except (UserError, TypeError) as error:
        parser.error(f"--set: {error}")
    return chosen


def table(results: Mapping[str, Any]) -> Iterable[str]:
    """The lines of a Markdown table of the results, what they were taken with, what is missing."""
    yield f"Device: {results['device']}; Python {results['python']}; {results['date']}"
    versions = {
        name: version
        for row in results["rows"]
        for side in row["sides"].values()
        for name, version in side["versions"].items()
    }
    yield ", ".join(f"{name} {version}" for name, version in versions.items())
    yield (
        f"Medians of {results['rounds']} rounds of {results['steps']} steps, the sides in turns; "
        "the ratio is the median of the rounds' ratios."
    )
    yield (
        "transformers computes logits at all positions, as its users train; ours at the predicted "
        "ones. MFU counts the model FLOPs of the latter for both."
    )
    yield ""
    yield "| model | length | batch | side | sequences/s | ms a step | MFU | ours is faster by |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in results["rows"]:
        yield from _row_lines(row)
    for entry in results["not_run"]:
        yield f"\nnot run: {_not_run(entry)}"


def _row_lines(row: Mapping[str, Any]) -> Iterable[str]:
    for name, side in row["sides"].items():
        mfu = "" if side["mfu"] is None else f"{side['mfu']:.1%}"
        ratio = ""
        if name != OURS:
            ratio = f"{row['ratios'][name]:.2f}"
            ratio += _verdict(row["ratios"][name], row["target_ratio"], "{:g}")
        elif mfu:
            mfu += _verdict(side["mfu"], row["target_mfu"], "{:.0%}")
        yield (
            f"| {row['model']} | {row['sequence_length']} | {row['batch_size']} | {name} "
            f"| {side['sequences_per_second']:.1f} | {side['milliseconds_per_step']:.1f} "
            f"| {mfu} | {ratio} |"
        )


def _verdict(value: float, target: float | None, form: str) -> str:
    if target is None:
        return ""
    return f" (target {form.format(target)}: {'met' if value >= target else 'missed'})"


def _not_run(entry: Mapping[str, Any]) -> str:
    return f"{entry['model']} at length {entry['sequence_length']}: {entry['reason']}"
