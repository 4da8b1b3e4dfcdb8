"""Our step against `transformers` with PyTorch on a CPU, in float32.

    python -m benchmarks.cpu
    python -m benchmarks.cpu --peers sdpa eager compiled      # the last needs a C++ compiler

Batches of 32 sequences of 128 tokens with 20 predictions, 30,522 pieces, dropout 0.1, clipping and
AdamW on both sides. Needs the packages of the extra `parity`.
"""

import os
from pathlib import Path

from benchmarks.peers import OURS, Side, Workload
from benchmarks.peers_command import make_parser, run
from bert_jax.models.bert import BertConfig


def _workload(name: str, hidden_size: int, target_ratio: float) -> Workload:
    model = BertConfig(
        hidden_size=hidden_size,
        num_hidden_layers=4,
        num_attention_heads=hidden_size // 64,
        intermediate_size=4 * hidden_size,
    )
    return Workload(name, model, 128, 20, (32,), target_ratio=target_ratio)


# Attention by PyTorch's own function, which is the default of `transformers`, or written out; the
# former compiled.
PEERS = {"sdpa": {}, "eager": {"attention": "eager"}, "compiled": {"compile": "inductor"}}
WORKLOADS = (_workload("mini", 256, 1.7), _workload("small", 512, 1.3))


def main() -> None:
    parser = make_parser((__doc__ or "").splitlines()[0], rounds=7, steps=5, minutes=60)
    parser.add_argument("--threads", type=int, default=2, help="cores that both sides run on")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=["sdpa", "eager"])
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= arguments.threads <= len(cores):
        parser.error(f"--threads {arguments.threads}: this machine has {len(cores)} cores")
    os.sched_setaffinity(0, cores[: arguments.threads])  # inherited by both sides
    ours = Side(
        OURS,
        "benchmarks.step_bert_jax",
        {"keep_freed_memory": True},
        {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
    )
    peers = [
        Side(
            f"transformers ({name})",
            "benchmarks.step_transformers",
            {"threads": arguments.threads, **PEERS[name]},
        )
        for name in dict.fromkeys(arguments.peers)
    ]
    device = f"{arguments.threads} cores of {_cpu_name()}"
    run(parser, arguments, WORKLOADS, [ours, *peers], platform="cpu", device=device)


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return os.uname().machine


if __name__ == "__main__":
    main()
