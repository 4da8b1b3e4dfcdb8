"""Recorded training runs of other implementations, read into our names."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bert_jax.interchange.names import from_tensors
from bert_jax.models.bert import BertConfig
from bert_jax.models.bert_names import config_from_tf1

SMALL = Path(__file__).parent / "small.npz"
# The original's feature names.
FEATURES = {
    "input_ids": "input_ids",
    "token_type_ids": "segment_ids",
    "attention_mask": "input_mask",
    "masked_positions": "masked_lm_positions",
    "masked_labels": "masked_lm_ids",
    "masked_weights": "masked_lm_weights",
    "next_sentence_labels": "next_sentence_labels",
}


class Recording(NamedTuple):
    """A run without dropout: where it started, what it saw, what came out.

    Attributes:
      name: "original" or "small".
      bert_config: content of a `bert_config.json` whose "gelu" is the tanh form.
      optimizer: the settings under the original's names.
      initial: the parameters before the first step, our tree.
      batches: taken in turn, in the documented contract.
      log: [steps, 4]: loss, masked-LM loss, next-sentence loss, global gradient norm before
        clipping, all before that step's update.
      first_step: `sequence_output` [B, L, H], `pooled_output` [B, H], `nsp_log_probs` [B, 2] and
        `mlm_log_probs_first8` [8, V] of the first batch, of the initial parameters.
      final: the parameters after the last step, our tree.
    """

    name: str
    bert_config: dict[str, Any]
    optimizer: dict[str, Any]
    initial: Any
    batches: list[dict[str, np.ndarray]]
    log: np.ndarray
    first_step: dict[str, np.ndarray]
    final: Any

    @property
    def config(self) -> BertConfig:
        return config_from_tf1(self.bert_config, gelu="tanh")

    @classmethod
    def from_arrays(
        cls, bert_config, optimizer, initial, batches, log, first_step, final, layout="hugging_face"
    ) -> "Recording":
        """From parameters in another layout and batches stacked along their first axis."""
        config = config_from_tf1(bert_config, gelu="tanh")
        count = len(batches["input_ids"])
        split = [
            {
                name: x[i].astype(np.float32 if name == "masked_weights" else np.int32)
                for name, x in batches.items()
            }
            for i in range(count)
        ]
        for batch in split:
            batch["next_sentence_labels"] = batch["next_sentence_labels"].reshape(-1)
        initial, final = (from_tensors(x, layout, config).params for x in (initial, final))
        name = "original" if layout == "tf1" else "small"
        return cls(name, bert_config, optimizer, initial, split, np.array(log), first_step, final)


def small() -> Recording:
    """The recording beside this file, made by `record.py`."""
    with np.load(SMALL) as file:
        arrays = dict(file)

    def group(name: str) -> dict[str, np.ndarray]:
        return {
            key.removeprefix(f"{name}/"): x for key, x in arrays.items() if key.startswith(name)
        }

    settings = json.loads(str(arrays["config"]))
    return Recording.from_arrays(
        settings["config"],
        settings["optimizer"],
        group("initial"),
        group("batches"),
        arrays["log"],
        group("first_step"),
        group("final"),
    )


def original(folder: Path) -> Recording:
    """The recording of google-research/bert itself; README.md tells its files."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(folder / "init" / "bert_model.ckpt"))
    initial = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    trajectory = json.loads((folder / "trajectory.json").read_text(encoding="utf-8"))
    with (
        np.load(folder / "batches.npz") as batches,
        np.load(folder / "first_step.npz") as first_step,
        np.load(folder / "final_params.npz") as final,
    ):
        return Recording.from_arrays(
            trajectory["config"],
            trajectory["optimizer"],
            initial,
            {ours: batches[theirs] for ours, theirs in FEATURES.items()},
            trajectory["log"],
            dict(first_step),
            dict(final),
            layout="tf1",
        )
