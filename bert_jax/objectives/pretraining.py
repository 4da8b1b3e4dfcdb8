"""The pre-training objective: losses and metrics of a batch of masked sequences or pairs."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bert_jax.errors import UserError
from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.pretraining_heads import BertForPreTraining
from bert_jax.objectives.losses import Sum, accuracy, cross_entropy
from bert_jax.objectives.objective import Batch, BatchSize, Keys, Metric, Shapes, zeros

_PAIR_TITLES = {
    "next_sentence": ("next-sent. loss", "next-sent. acc."),
    "sentence_order": ("order loss", "order accuracy"),
}


@dataclasses.dataclass(frozen=True)
class PretrainingObjective:
    """Masked language model plus, optionally, an objective on sentence pairs.

    Attributes:
      config: of the encoder.
      pairs: what the `next_sentence_labels` of pairs say, "next_sentence" or "sentence_order"; the
        metrics have that name too. None for batches without pairs.
    """

    config: EncoderConfig
    pairs: str | None = "next_sentence"

    @property
    def model(self) -> BertForPreTraining:
        return BertForPreTraining(self.config, self.pairs is not None)

    @property
    def metrics(self) -> dict[str, Metric]:
        found = {
            "masked_lm_loss": Metric("masked-LM loss"),
            "masked_lm_accuracy": Metric("masked-LM acc."),
        }
        if self.pairs:
            loss, accuracy = _PAIR_TITLES[self.pairs]
            found[f"{self.pairs}_loss"] = Metric(loss)
            found[f"{self.pairs}_accuracy"] = Metric(accuracy, of_a_constant=0.5)
        return found

    def batch_shapes(self, size: BatchSize) -> Shapes:
        """The batches of `data_pipeline/pretraining/collate.py`."""

        def array(*shape: int, dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((size.rows, *shape), dtype)

        shapes = {
            "input_ids": array(size.length),
            "token_type_ids": array(size.length),
            "attention_mask": array(size.length),
            "masked_positions": array(size.predictions),
            "masked_labels": array(size.predictions),
            "masked_weights": array(size.predictions, dtype=jnp.float32),
        }
        if size.packed:
            shapes["position_ids"] = array(size.length)
        if self.pairs:
            shapes["next_sentence_labels"] = array()
        return shapes

    def init(self, key: jax.Array) -> Any:
        """Fresh parameters, boxed with their logical axis names."""
        batch = zeros(self.batch_shapes(BatchSize(rows=1, length=2)))
        return self.model.init(key, batch)["params"]

    def loss_weights(self, batch: Batch) -> dict[str, jax.Array]:
        """What each loss is divided by; the 1e-5 is that of the original's `run_pretraining.py`."""
        weights = {"masked_lm_loss": jnp.sum(batch["masked_weights"]) + 1e-5}
        if self.pairs:
            weights[f"{self.pairs}_loss"] = jnp.float32(batch["next_sentence_labels"].shape[0])
        return weights

    def sums(self, params: Any, batch: Batch, keys: Keys) -> dict[str, Sum]:
        """Every loss and accuracy as (sum, weight); of the keys, only that of dropout is used."""
        outputs: Any = self.model.apply(
            {"params": params},
            batch,
            deterministic=keys.dropout is None,
            rngs=None if keys.dropout is None else {"dropout": keys.dropout},
        )
        with jax.named_scope("loss"):
            labels, weights = batch["masked_labels"], batch["masked_weights"]
            sums = {
                "masked_lm_loss": cross_entropy(outputs.masked_lm_logits, labels, weights),
                "masked_lm_accuracy": accuracy(outputs.masked_lm_logits, labels, weights),
            }
            if self.pairs:
                labels = batch["next_sentence_labels"]
                ones = jnp.ones(labels.shape, jnp.float32)
                logits = outputs.next_sentence_logits
                sums[f"{self.pairs}_loss"] = cross_entropy(logits, labels, ones)
                sums[f"{self.pairs}_accuracy"] = accuracy(logits, labels, ones)
        return sums


def fill_mask(
    config: EncoderConfig,
    params: Any,
    input_ids: np.ndarray,
    masked_positions: np.ndarray,
    top: int = 5,
) -> tuple[np.ndarray, np.ndarray]:
    """The `top` most probable pieces at the masked positions of one sequence.

    Args:
      config: of the encoder.
      params: of a model with a masked-LM head; other heads are not used.
      input_ids: int32 [L], with [CLS], [SEP] and [MASK].
      masked_positions: int32 [K].

    Returns:
      (ids int32 [K, top], probabilities float32 [K, top]), best first.
    """
    if "masked_lm" not in params:
        raise UserError(
            "this model has no masked-LM head, so it cannot fill in masks; pre-train it first"
        )
    batch = {
        "input_ids": input_ids[None],
        "token_type_ids": np.zeros_like(input_ids)[None],
        "attention_mask": np.ones_like(input_ids)[None],
        "masked_positions": masked_positions[None],
    }
    model = BertForPreTraining(config, next_sentence=False)
    params = {part: params[part] for part in ("encoder", "masked_lm")}
    logits = jax.jit(model.apply)({"params": params}, batch).masked_lm_logits[0]
    probabilities, ids = jax.lax.top_k(jax.nn.softmax(logits, axis=-1), top)
    return np.asarray(ids), np.asarray(probabilities)
