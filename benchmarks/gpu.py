"""Our step against `transformers` with PyTorch on one GPU, in bfloat16.

    python -m benchmarks.gpu --output benchmarks/results/gpu.json
    python -m benchmarks.gpu --only large-512 --output large.json
    python -m benchmarks.gpu --toy          # a tiny model on the CPU: shows that it runs

BERT-base and BERT-large at lengths 128 and 512, dropout 0.1, clipping and AdamW on both sides,
master weights in float32. Theirs: `torch.compile`, autocast, scaled dot-product (flash) attention,
fused AdamW. The batch is the largest listed that both sides have the memory for at the same time.
Needs torch and transformers, and neither TensorFlow nor what only `run_pretrain.py` needs.
"""

import os
from typing import Any

from benchmarks.models import BASE, LARGE
from benchmarks.peers import OURS, Side, Workload
from benchmarks.peers_command import make_parser, run
from bert_jax.models.bert import BertConfig

# In the order of their importance, should the time end first.
WORKLOADS = (
    Workload("large", LARGE, 512, 76, (32, 16, 8), target_ratio=1.2, target_mfu=0.5),
    Workload("base", BASE, 128, 20, (256, 128, 64), target_ratio=1.2),
    Workload("large", LARGE, 128, 20, (128, 64, 32), target_ratio=1.2),
    Workload("base", BASE, 512, 76, (64, 32, 16), target_ratio=1.2),
)
TOY = Workload(
    "toy",
    BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
        dtype="bfloat16",
    ),
    sequence_length=16,
    max_predictions=3,
    batch_sizes=(8,),
    learning_rate=1e-3,
)


def main() -> None:
    parser = make_parser((__doc__ or "").splitlines()[0], rounds=7, steps=20, minutes=9.5)
    parser.add_argument("--toy", action="store_true", help="a tiny model on the CPU")
    arguments = parser.parse_args()
    platform, workloads = ("cpu", (TOY,)) if arguments.toy else ("gpu", WORKLOADS)
    if arguments.toy:
        environment = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
        # The backend traces as inductor does, and needs no C++ compiler.
        options: dict[str, Any] = {"compile": "aot_eager", "threads": 1}
    else:
        # Both sides have the memory of the same device, which jax must not take whole.
        environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        options = {"compile": "inductor"}
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    sides = [
        Side(OURS, "benchmarks.step_bert_jax", environment=environment),
        Side("transformers", "benchmarks.step_transformers", options),
    ]
    run(parser, arguments, workloads, sides, platform=platform)


if __name__ == "__main__":
    main()
