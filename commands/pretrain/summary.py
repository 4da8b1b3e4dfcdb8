"""The summary of a finished run: held-out figures before and after training, and speed."""

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bert_jax.objectives.objective import Metric
from configs.pretrain import PretrainConfig


def held_out_lines(
    rows: Sequence[Mapping[str, Any]], metrics: Mapping[str, Metric], entropy: float
) -> Iterator[str]:
    """The masked-LM loss and all accuracies before and after training.

    `rows` are those of metrics.jsonl, `entropy` is the unigram entropy of the held-out tokens in
    nats.
    """
    held_out = [row for row in rows if row["split"] == "eval"]
    if not held_out:
        yield "No held-out figures: evaluation_examples is 0."
        return
    first, last = held_out[0], held_out[-1]
    below = entropy - last["masked_lm_loss"]
    verdict = f"{below:.3f} nats below it"
    if below < 0:
        verdict = f"{-below:.3f} nats above it, so nothing has been learned from context yet"
    yield f"Held-out          step {first['step']:>8}  step {last['step']:>8}"
    for name, metric in metrics.items():
        line = f"{metric.title:<18}{first[name]:13.3f}  {last[name]:13.3f}"
        if name == "masked_lm_loss":
            yield f"{line}   unigram entropy {entropy:.3f}: {verdict}"
        elif metric.of_a_constant is not None:
            yield f"{line}   a constant answer {metric.of_a_constant:g}"
        elif name.endswith("_accuracy"):
            yield line


def speed_lines(rows: Sequence[Mapping[str, Any]], config: PretrainConfig) -> Iterator[str]:
    """The speed of each phase, medians of its rows of metrics.jsonl, and the run's goodput."""
    timed = [row for row in rows if "goodput" in row]
    ends = list(itertools.accumulate(phase.steps for phase in config.phases))
    for number, end in enumerate(ends):
        start = ends[number - 1] if number else 0
        of_phase = [row for row in timed if start < row["step"] <= end]
        if not of_phase:
            continue
        names = "sequences_per_second", "tokens_per_second", "padding_share", "input_wait_share"
        sequences, tokens, padding, waiting = (
            statistics.median(row[name] for row in of_phase) for name in names
        )
        line = (
            f"{sequences:,.0f} {config.data.rows}/s, {tokens:,.0f} tokens/s, "
            f"{padding:.1%} padding, {waiting:.1%} of the time waiting for input"
        )
        if "mfu" in of_phase[-1]:
            line += f", MFU {statistics.median(row['mfu'] for row in of_phase):.1%}"
        if end == ends[-1]:
            line += f"; goodput {of_phase[-1]['goodput']:.1%}"
        name = "speed" if len(ends) == 1 else f"speed, phase {number}"
        yield f"{name:<18}{line}"
