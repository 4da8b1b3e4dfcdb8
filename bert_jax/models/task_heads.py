"""The fine-tuning model: the encoder and one output layer.

As in the original's `run_classifier.py` and `run_squad.py`, a classifier's input has a dropout of
0.1; that of a layer that finds spans has none.

Legend of shapes: B batch, L sequence length, H hidden size, C choices, S sentences, O outputs.
"""

from collections.abc import Callable, Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int

from bert_jax.layers.arrays import AnyArray
from bert_jax.layers.dropout import Dropout
from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.initialization import output_layer
from bert_jax.models.registry import architecture_of

Batch = Mapping[str, AnyArray]

# A logit to which a softmax gives nothing; finite, so that differences of two are not NaN (R-Drop).
ABSENT = -1e9
_INPUTS = ("input_ids", "token_type_ids", "attention_mask")


class TaskModel(nn.Module):
    """One layer on the hidden states that `states` names: (batch, deterministic) -> logits.

    - "pooled": that of [CLS] through the pooler, for the sequence or the pair as a whole.
    - "tokens": each token's.
    - "sentences": those at `cls_positions`, int [B, S], as in BertSum with its simple classifier
      (arXiv:1903.10318, section 2).
    - "entities": those of [CLS] and at `entity_positions`, int [B, 2], concatenated: entity starts
      as in section 3.3 of arXiv:1906.03158, [CLS] as in R-BERT (arXiv:1905.08284).
    """

    config: EncoderConfig
    outputs: int
    states: str = "pooled"
    classifier_dropout: float = 0.1
    layer: str = "classifier"  # its name among the parameters

    def setup(self) -> None:
        self.encoder = architecture_of(self.config).modules().encoder(self.config)
        if self.states == "pooled":
            self.pooler = pooler_of(self.config)
        self.dropout = Dropout(self.classifier_dropout)
        setattr(self, self.layer, output_layer(self.config, self.outputs, self.layer))

    def __call__(self, batch: Batch, deterministic: bool = True) -> Float32[Array, "..."]:
        """Logits [B, O] for inputs int [B, L], or [B, L, O] for "tokens".

        Several scores in a row (O is 1) have no axis of outputs: they are [B, S] for "sentences"
        and [B, C] for inputs int [B, C, L], with `ABSENT` for a choice without tokens.
        """
        rows = batch["input_ids"].shape[:-1]
        inputs = {name: batch[name].reshape(-1, batch[name].shape[-1]) for name in _INPUTS}
        positions = self._positions(batch, inputs["input_ids"])
        states = self.encoder(**inputs, deterministic=deterministic, positions=positions)
        if self.states == "pooled":
            states = self.pooler(states)
        elif self.states == "entities":
            states = states.reshape(len(states), -1)
        states = self.dropout(states, deterministic=deterministic)
        logits = getattr(self, self.layer)(states.astype(jnp.float32))
        if len(rows) > 1:
            return jnp.where(present_choices(batch), logits.reshape(rows), ABSENT)
        return logits[..., 0] if self.states == "sentences" else logits

    def _positions(
        self, batch: Batch, input_ids: Int[AnyArray, "B L"]
    ) -> Int[AnyArray, "B Q"] | None:
        """The positions whose hidden states are needed; None for all."""
        if self.states == "pooled":
            return jnp.zeros_like(input_ids[:, :1])  # [CLS] is at 0
        if self.states == "sentences":
            return batch["cls_positions"]
        if self.states == "entities":
            return jnp.pad(batch["entity_positions"], ((0, 0), (1, 0)))
        assert self.states == "tokens", self.states
        return None


def pooler_of(config: EncoderConfig) -> Callable[[Float[Array, "B L H"]], Float[Array, "B H"]]:
    """The family's pooler, or else the first token's hidden state as it is."""
    pooler = architecture_of(config).modules().pooler
    return pooler(config) if pooler else (lambda hidden_states: hidden_states[:, 0])


def present_choices(batch: Batch) -> Bool[AnyArray, "B C"]:
    """Which choices exist; the others only fill up to the largest number in a data set."""
    return batch["attention_mask"][:, :, 0] > 0
