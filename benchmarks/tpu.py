"""What the TPU compiler estimates for BERT-base and BERT-large on several slices.

    python -m benchmarks.tpu
    python -m benchmarks.tpu --only base-128 v5e-16 --batch 128

Needs the extra `tpu` and no TPU. For each model, length and slice it halves the sequences per chip
until the step fits in the chip's memory. A row takes a minute or more; each is written when it is
done, and rows that the results file has already are left alone.
"""

import argparse
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jax

from benchmarks.models import BASE, LARGE
from bert_jax.analysis.compile_ahead import KNOWN, DoesNotFit, estimate, topology_devices
from bert_jax.objectives.objective import BatchSize
from bert_jax.objectives.pretraining import PretrainingObjective
from bert_jax.parallel.sharding import make_mesh
from bert_jax.training.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
from data_pipeline.files import write_json

SLICES = ("v5e-1", "v5e-16", "v5e-256", "v4-8", "v5p-8", "v6e-16")
# Model, length, predictions, sequences per chip to begin with.
MODELS = {
    "base-128": (BASE, 128, 20, 128),
    "base-512": (BASE, 512, 76, 32),
    "large-128": (LARGE, 128, 20, 64),
    "large-512": (LARGE, 512, 76, 16),
}
RESULTS = Path(__file__).parent / "results" / "tpu.json"


def versions() -> dict[str, str]:
    """What a row depends on: jax, the TPU compiler and the last change to our code in use here."""
    used = [name for name in sys.modules if name.startswith("bert_jax.")]
    files = [str(sys.modules[name].__file__) for name in sorted(used)]
    commit = ["git", "log", "-1", "--format=%h", "--", *files]
    folder = Path(__file__).parent
    revision = subprocess.run(commit, cwd=folder, capture_output=True, text=True).stdout.strip()
    return {"jax": jax.__version__, "libtpu": metadata.version("libtpu"), "bert_jax": revision}


def measure(name: str, slice_name: str, batch: int) -> dict[str, object]:
    """The row of a model on a slice, with the largest batch per chip that fits."""
    model, length, predictions, _ = MODELS[name]
    devices, chip = topology_devices(KNOWN[slice_name])
    mesh = make_mesh(devices=devices)
    config = OptimizerConfig()
    optimizer = make_optimizer(config, learning_rate_schedule(config, 1_000_000))
    while True:
        try:
            found = estimate(
                PretrainingObjective(model),
                model,
                optimizer,
                mesh,
                chip,
                BatchSize(batch * mesh.size, length, predictions),
            )
            break
        except DoesNotFit:
            if batch == 1:
                raise
            batch //= 2
    return {
        "sequences_per_chip": batch,
        "chips": mesh.size,
        "state_gib": found.state / 2**30,
        "peak_gib": found.peak / 2**30,
        "memory_gib": chip.memory / 2**30,
        "cycles": sum(found.summary.cycles.values()),
        "cycles_by_part": found.summary.cycles,
        "cycles_of_kernels": found.kernels,
        "milliseconds": 1e3 * found.seconds,
        "milliseconds_of_collectives": 1e3 * found.communication,
        "mfu": found.mfu,
        "collectives": {kind: each._asdict() for kind, each in found.summary.collectives.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], help="models or slices; all by default")
    parser.add_argument("--batch", type=int, help="sequences per chip to begin with")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    unknown = set(arguments.only) - {*MODELS, *SLICES}
    if unknown:
        parser.error(f"unknown {', '.join(unknown)}; known are {', '.join((*MODELS, *SLICES))}")
    models = [name for name in MODELS if name in arguments.only] or list(MODELS)
    slices = [name for name in SLICES if name in arguments.only] or list(SLICES)
    rows = json.loads(arguments.output.read_text()) if arguments.output.is_file() else {}
    present = versions()
    for slice_name in slices:
        for name in models:
            key = f"{name} on {slice_name}"
            if key in rows and rows[key]["versions"] == present:
                print(f"{key}: kept from {arguments.output}", file=sys.stderr)
                continue
            print(f"{key} ...", file=sys.stderr, flush=True)
            row = measure(name, slice_name, arguments.batch or MODELS[name][3])
            rows[key] = row | {"versions": present}
            write_json(arguments.output, rows)
    columns = ("model, length", "slice", "per chip", "state", "peak memory", "cycles", "ms")
    columns += ("collectives", "MFU")
    print("|", " | ".join(columns), "|")
    print("|---" * len(columns), end="|\n")
    for key, row in rows.items():
        name, slice_name = key.split(" on ")
        print(
            f"| {name} | {slice_name} | {row['sequences_per_chip']} | {row['state_gib']:.2f} GiB | "
            f"{row['peak_gib']:.1f} of {row['memory_gib']:.0f} GiB | {row['cycles'] / 1e6:.1f} M | "
            f"{row['milliseconds']:.1f} | {row['milliseconds_of_collectives']:.1f} ms | "
            f"{row['mfu']:.0%} |"
        )


if __name__ == "__main__":
    main()
