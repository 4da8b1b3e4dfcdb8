"""The pre-training model: an encoder with its masked-LM head and, optionally, a next-sentence head.

Legend of shapes: B batch, L sequence length, K predictions, H hidden size, V vocabulary size.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from bert_jax.errors import UserError
from bert_jax.layers.arrays import AnyArray
from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.initialization import output_layer
from bert_jax.models.registry import architecture_of


class NextSentenceHead(nn.Module):
    """Two logits from the pooled output: 0, B follows A; 1, B is random."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, pooled: Float[Array, "B H"]) -> Float32[Array, "B 2"]:
        return output_layer(self.config, 2, "classifier")(pooled.astype(jnp.float32))


class PretrainingOutputs(NamedTuple):
    """Logits at the masked positions and, with a next-sentence head, of the pair."""

    masked_lm_logits: Float32[Array, "B K V"]
    next_sentence_logits: Float32[Array, "B 2"] | None


class BertForPreTraining(nn.Module):
    """The encoder with the masked-LM head and, optionally, the next-sentence head."""

    config: EncoderConfig
    next_sentence: bool = True

    def setup(self) -> None:
        architecture = architecture_of(self.config)
        modules = architecture.modules()
        self.encoder = modules.encoder(self.config)
        self.masked_lm = modules.masked_lm(self.config)
        if self.next_sentence:
            if modules.pooler is None:
                raise UserError(
                    f"sentence pairs need a pooler, which the architecture {architecture.name} "
                    "does not have; add --data.pairs full_sentences"
                )
            self.pooler = modules.pooler(self.config)
            self.next_sentence_head = NextSentenceHead(self.config)

    def __call__(
        self, batch: Mapping[str, AnyArray], deterministic: bool = True
    ) -> PretrainingOutputs:
        """Logits of both objectives.

        Args:
          batch: `masked_positions` int [B, K] and inputs of `bert.Encoder`, int [B, L]:
            `position_ids` only for rows of several sequences.
          deterministic: False applies dropout, which needs the rng "dropout".
        """
        hidden_states = self.encoder(
            batch["input_ids"],
            batch["token_type_ids"],
            batch["attention_mask"],
            deterministic,
            batch.get("position_ids"),
        )
        word_table: Any = self
        for name in architecture_of(self.config).word_table.split("/"):
            word_table = getattr(word_table, name)
        masked_lm_logits = self.masked_lm(hidden_states, batch["masked_positions"], word_table)
        next_sentence_logits = None
        if self.next_sentence:
            next_sentence_logits = self.next_sentence_head(self.pooler(hidden_states))
        return PretrainingOutputs(masked_lm_logits, next_sentence_logits)
