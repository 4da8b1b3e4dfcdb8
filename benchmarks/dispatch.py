"""Whether the host runs ahead of the devices: a trace of a few steps, read.

    python -m benchmarks.dispatch                        # 4 layers, 256 wide, 32 sequences of 128
    python -m benchmarks.dispatch --batch-size 8 --trace DIR

Trains a small BERT on random tokens with the real loop, as with `run_pretrain.py --profile`, and
prints from the trace how long the host was held up in dispatching a step and how long the devices
worked. The trace is kept where --trace names a folder.
"""

import argparse
import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from bert_jax.models.bert import BertConfig
from bert_jax.monitoring.profiler import LAST
from bert_jax.monitoring.tracker import Tracker
from bert_jax.objectives.pretraining import PretrainingObjective
from bert_jax.parallel.sharding import make_mesh
from bert_jax.training import loop
from bert_jax.training.checkpoint import Checkpoints
from bert_jax.training.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
from bert_jax.training.step import init_state

MILLISECOND = 1e6  # in nanoseconds
PREDICTIONS = 20


class Span(NamedTuple):
    """Begin and end in nanoseconds."""

    begin: float
    end: float


def random_batches(
    vocab_size: int, batch_size: int, length: int, cursor: Sequence[int] | None
) -> Iterator[loop.HostBatch]:
    """The same batch of random tokens again and again."""
    random = np.random.default_rng(0)
    shape = batch_size, length
    slots = batch_size, PREDICTIONS
    batch = {
        "input_ids": random.integers(0, vocab_size, shape, dtype=np.int32),
        "token_type_ids": np.zeros(shape, np.int32),
        "attention_mask": np.ones(shape, np.int32),
        "masked_positions": np.sort(random.integers(0, length, slots, dtype=np.int32)),
        "masked_labels": random.integers(0, vocab_size, slots, dtype=np.int32),
        "masked_weights": np.ones(slots, np.float32),
        "next_sentence_labels": random.integers(0, 2, batch_size, dtype=np.int32),
    }
    while True:
        yield batch | {"cursor": np.zeros(1, np.int64)}


def train(folder: Path, trace: Path, arguments: argparse.Namespace) -> None:
    """Takes as many steps as a trace needs, without looking at any of them in between."""
    model = BertConfig(
        hidden_size=arguments.hidden_size,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.hidden_size // 64,
        intermediate_size=4 * arguments.hidden_size,
    )
    objective, mesh = PretrainingObjective(model), make_mesh()
    settings = OptimizerConfig(warmup_steps=0)
    optimizer = make_optimizer(settings, learning_rate_schedule(settings, 2 * LAST))
    batches = partial(
        random_batches, model.vocab_size, arguments.batch_size, arguments.sequence_length
    )
    with contextlib.closing(Checkpoints(folder / "checkpoints")) as checkpoints:
        loop.run(
            loop.LoopConfig(),
            [loop.Stage(LAST + 1, batches, [], flops_per_step=0.0)],
            objective=objective,
            optimizer=optimizer,
            mesh=mesh,
            checkpoints=checkpoints,
            open_tracker=partial(Tracker, folder),
            saved_config={},
            fresh_state=lambda: init_state(objective, optimizer, mesh, 0),
            seed=0,
            profile=trace,
        )


def spans(events: Iterable[Any]) -> list[Span]:
    return [Span(event.start_ns, event.start_ns + event.duration_ns) for event in events]


def length_of_union(parts: Iterable[Span]) -> float:
    """Nanoseconds covered by at least one of the spans.

    >>> length_of_union([Span(5, 6), Span(0, 2), Span(1, 3)])
    4.0
    """
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(parts):
        total += max(end - max(begin, reached), 0.0)
        reached = max(reached, end)
    return total


def read(trace: Path) -> tuple[list[Span], list[Span]]:
    """When each step was being dispatched, and when the devices were at work on something."""
    file = max(trace.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    dispatches, work = [], []
    for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
        for line in plane.lines:
            if plane.name.startswith("/device:"):
                if line.name == "XLA Ops" or line.name.startswith("Stream"):
                    work += spans(line.events)
            elif line.name.startswith("tf_XLAPjRtCpuClient"):
                # What a CPU does is named after XLA's instructions, in threads of its client.
                work += spans(e for e in line.events if "Threadpool" not in e.name)
            else:
                dispatches += spans(e for e in line.events if e.name == "train")
    return sorted(dispatches), work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden-size", type=int, default=256, help="a multiple of 64")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--sequence-length", type=int, default=128)
    parser.add_argument("--trace", type=Path, help="keep the trace in this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trace = arguments.trace or Path(folder, "trace")
        train(Path(folder), trace, arguments)
        dispatches, work = read(trace)
    begin, end = dispatches[0].begin, max(span.end for span in work)
    whole = end - begin
    held_up = [span.end - span.begin for span in dispatches]
    busy = length_of_union(span for span in work if span.end > begin)
    ahead = end - dispatches[-1].end
    print(
        f"{len(dispatches)} steps in {whole / MILLISECOND:,.1f} ms on {jax.device_count()} "
        f"{jax.devices()[0].device_kind} device(s)\n"
        f"devices at work: {busy / whole:.1%} of that time\n"
        f"host held up in dispatching: {sum(held_up) / whole:.1%}, "
        f"{', '.join(f'{each / MILLISECOND:.1f}' for each in held_up)} ms\n"
        f"the last step was dispatched {ahead / MILLISECOND:,.1f} ms before the devices were done"
    )


if __name__ == "__main__":
    main()
