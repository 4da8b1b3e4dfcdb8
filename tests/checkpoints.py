"""Makes checkpoints in the formats that people have, from parameters of ours."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from safetensors.numpy import save_file

from bert_jax.interchange.configs import config_to_hugging_face
from bert_jax.interchange.names import to_tensors
from bert_jax.models.bert import BertConfig
from bert_jax.objectives.pretraining import PretrainingObjective

PIECES = (  # noqa: SIM905
    "[PAD] [UNK] [CLS] [SEP] [MASK] the a cat dog runs ##s walk ##ed ##ing over under house . , ! "
    "un ##able to be seen quick brown fox jump lazy"
).split()
TINY = BertConfig(
    vocab_size=len(PIECES),
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=12,
    max_position_embeddings=16,
    initializer_range=0.2,
)


def random_params(config: BertConfig = TINY, seed: int = 0) -> Any:
    """Parameters of BertForPreTraining, none of them zero or one."""
    shapes = jax.eval_shape(PretrainingObjective(config).init, jax.random.key(0))
    return random_arrays(shapes, 0.2, seed)


def random_arrays(shapes: Any, deviation: float, seed: int = 0) -> Any:
    """Normal float32 arrays of these shapes, without compiling a program that draws them."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: random.normal(0, deviation, x.shape).astype(np.float32), nn.unbox(shapes)
    )


def write_tf1(
    folder: Path, tensors: dict[str, np.ndarray], config: BertConfig = TINY, **changes: Any
) -> None:
    """A folder as of google-research/bert: `bert_model.ckpt`, `bert_config.json`, `vocab.txt`."""
    import tensorflow as tf

    folder.mkdir(parents=True, exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=str(folder / "bert_model.ckpt"),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )
    values = dataclasses.asdict(config) | {"hidden_act": "gelu"}
    for name in ("dtype", "layer_norm_eps"):
        del values[name]
    (folder / "bert_config.json").write_text(json.dumps(values | changes))
    write_vocab(folder)


def tf1_tensors(params: Any, adam: tuple[Any, Any] | None = None, step: int = 0) -> dict:
    """Variables of TF1, with Adam's slots and the global step if moments are given."""
    tensors = to_tensors(params, "tf1", TINY)
    for slot, moments in zip(("adam_m", "adam_v"), adam or (), strict=False):
        named = to_tensors(moments, "tf1", TINY)
        tensors |= {f"{name}/{slot}": tensor for name, tensor in named.items()}
    return tensors | ({"global_step": np.int64(step)} if adam else {})


def write_hugging_face(
    folder: Path, tensors: dict[str, np.ndarray], config: BertConfig = TINY, **changes: Any
) -> None:
    """A folder of transformers: `config.json`, `model.safetensors`, `vocab.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: np.ascontiguousarray(x) for name, x in tensors.items()},
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text(json.dumps(config_to_hugging_face(config) | changes))
    write_vocab(folder)


def write_vocab(folder: Path, pieces: list[str] = PIECES) -> None:
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces))


def assert_same(ours: Any, theirs: Any) -> None:
    """Equal trees, to the bit."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype == np.float32
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()
