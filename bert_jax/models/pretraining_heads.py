"""The two pre-training heads of BERT and the model that carries them.

Legend of shapes: B batch, L sequence length, K predictions per sequence, H hidden size,
V vocabulary size.
"""

from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from bert_jax.layers.arrays import AnyArray
from bert_jax.models.bert import (
    BertConfig,
    Encoder,
    LayerNorm,
    Pooler,
    activation,
    dense,
    initializer,
)


class MaskedLMHead(nn.Module):
    """Gather, dense, GELU, LayerNorm, product with the tied word embeddings, vocabulary bias."""

    config: BertConfig

    @nn.compact
    def __call__(
        self,
        hidden_states: Float[Array, "B L H"],
        masked_positions: Int[AnyArray, "B K"],
        word_embeddings: Float[Array, "V H"],
    ) -> Float32[Array, "B K V"]:
        """Logits at the masked positions only; `word_embeddings` is the embeddings' own table."""
        config = self.config
        x = jnp.take_along_axis(hidden_states, masked_positions[..., None], axis=1)  # (B, K, H)
        x = dense(config, config.hidden_size, ("embed", "hidden"), "transform")(x)
        x = LayerNorm(config, name="norm")(activation(config)(x))
        bias: jax.Array = self.param(  # type: ignore[assignment]
            "bias",
            nn.with_logical_partitioning(nn.initializers.zeros_init(), ("vocab",)),
            (config.vocab_size,),
        )
        logits = jnp.einsum(
            "bkh,vh->bkv",
            x,
            word_embeddings.astype(x.dtype),
            preferred_element_type=jnp.float32,
        )
        return logits + bias


class NextSentenceHead(nn.Module):
    """Two logits from the pooled output: 0, B follows A; 1, B is random."""

    config: BertConfig

    @nn.compact
    def __call__(self, pooled: Float[Array, "B H"]) -> Float32[Array, "B 2"]:
        """The logits, computed in float32."""
        kernel_init = initializer(self.config, "hidden", "classes")
        bias_init = nn.with_logical_partitioning(nn.initializers.zeros_init(), ("classes",))
        return nn.Dense(2, kernel_init=kernel_init, bias_init=bias_init, name="classifier")(
            pooled.astype(jnp.float32)
        )


class PretrainingOutputs(NamedTuple):
    """What the pre-training model returns.

    Attributes:
      masked_lm_logits: at the masked positions.
      next_sentence_logits: None for a model without that objective.
    """

    masked_lm_logits: Float32[Array, "B K V"]
    next_sentence_logits: Float32[Array, "B 2"] | None


class BertForPreTraining(nn.Module):
    """The encoder with the masked-LM head and, if asked, the next-sentence head."""

    config: BertConfig
    next_sentence: bool = True

    def setup(self) -> None:
        self.encoder = Encoder(self.config)
        self.masked_lm = MaskedLMHead(self.config)
        if self.next_sentence:
            self.pooler = Pooler(self.config)
            self.next_sentence_head = NextSentenceHead(self.config)

    def __call__(
        self, batch: Mapping[str, AnyArray], deterministic: bool = True
    ) -> PretrainingOutputs:
        """Logits of both objectives.

        Args:
          batch: `input_ids`, `token_type_ids`, `attention_mask` int [B, L] and
            `masked_positions` int [B, K]; `position_ids` int [B, L] where rows hold several
            sequences (see `Encoder`).
          deterministic: False applies dropout, which needs the rng "dropout".
        """
        hidden_states = self.encoder(
            batch["input_ids"],
            batch["token_type_ids"],
            batch["attention_mask"],
            deterministic,
            batch.get("position_ids"),
        )
        masked_lm_logits = self.masked_lm(
            hidden_states, batch["masked_positions"], self.encoder.embeddings.word_embeddings
        )
        next_sentence_logits = None
        if self.next_sentence:
            next_sentence_logits = self.next_sentence_head(self.pooler(hidden_states))
        return PretrainingOutputs(masked_lm_logits, next_sentence_logits)
