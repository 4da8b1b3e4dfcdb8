"""The fine-tuning models: the encoder and one output layer each.

All have one signature: (batch, deterministic) -> float32 logits. As in the original's
`run_classifier.py` and `run_squad.py`, what the classifiers see passes a dropout of 0.1, the span
does not. The losses make them classification, multi-label or regression (`num_labels` 1).

Legend of shapes: B batch, L sequence length, Q positions, H hidden size, C choices, S sentences.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32

from bert_jax.layers.arrays import AnyArray
from bert_jax.layers.dropout import Dropout
from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.initialization import output_layer
from bert_jax.models.registry import architecture_of

Batch = Mapping[str, AnyArray]


def _encode(
    encoder: Any, batch: Batch, deterministic: bool, positions: AnyArray | None = None
) -> jax.Array:
    """[B, L, H] of the batch's `input_ids`, `token_type_ids` and `attention_mask`, int [B, L].

    With `positions`, int [B, Q], the hidden states there only: [B, Q, H].
    """
    return encoder(
        **{name: batch[name] for name in _INPUTS}, deterministic=deterministic, positions=positions
    )


def pooler_of(config: EncoderConfig) -> Callable[[jax.Array], jax.Array]:
    """[B, L, H] -> [B, H]: the family's pooler, or the first token's hidden state as it is."""
    pooler = architecture_of(config).modules().pooler
    return pooler(config) if pooler else (lambda hidden_states: hidden_states[:, 0])


def _first(batch: Batch) -> jax.Array:
    """int [B, 1]: the position of [CLS]."""
    return jnp.zeros_like(batch["input_ids"][:, :1])


class BertForSequenceClassification(nn.Module):
    """A label, or a score, for a sequence or a pair: the pooled output through one layer."""

    config: EncoderConfig
    num_labels: int
    classifier_dropout: float = 0.1

    def setup(self) -> None:
        self.encoder = architecture_of(self.config).modules().encoder(self.config)
        self.pooler = pooler_of(self.config)
        self.dropout = Dropout(self.classifier_dropout)
        self.classifier = output_layer(self.config, self.num_labels, "classifier")

    def __call__(self, batch: Batch, deterministic: bool = True) -> Float32[Array, "B labels"]:
        """The logits of inputs int [B, L]."""
        pooled = self.pooler(_encode(self.encoder, batch, deterministic, _first(batch)))
        pooled = self.dropout(pooled, deterministic=deterministic)
        return self.classifier(pooled.astype(jnp.float32))


class BertForTokenClassification(nn.Module):
    """A label for every token: each hidden state through one layer."""

    config: EncoderConfig
    num_labels: int
    classifier_dropout: float = 0.1

    def setup(self) -> None:
        self.encoder = architecture_of(self.config).modules().encoder(self.config)
        self.dropout = Dropout(self.classifier_dropout)
        self.classifier = output_layer(self.config, self.num_labels, "classifier")

    def __call__(self, batch: Batch, deterministic: bool = True) -> Float32[Array, "B L labels"]:
        """The logits of inputs int [B, L]."""
        hidden_states = _encode(self.encoder, batch, deterministic)
        hidden_states = self.dropout(hidden_states, deterministic=deterministic)
        return self.classifier(hidden_states.astype(jnp.float32))


class BertForRelationClassification(nn.Module):
    """The relation of two entities: the states of [CLS] and of the marks before both, together.

    Entity starts as in section 3.3 of arXiv:1906.03158, [CLS] as in R-BERT (arXiv:1905.08284).
    """

    config: EncoderConfig
    num_labels: int
    classifier_dropout: float = 0.1

    def setup(self) -> None:
        self.encoder = architecture_of(self.config).modules().encoder(self.config)
        self.dropout = Dropout(self.classifier_dropout)
        self.classifier = output_layer(self.config, self.num_labels, "classifier")

    def __call__(self, batch: Batch, deterministic: bool = True) -> Float32[Array, "B labels"]:
        """The logits of inputs int [B, L] and `entity_positions` int [B, 2]."""
        positions = jnp.pad(batch["entity_positions"], ((0, 0), (1, 0)))  # [CLS] is at 0
        states = _encode(self.encoder, batch, deterministic, positions)  # (B, 3, H)
        together = self.dropout(states.reshape(len(states), -1), deterministic=deterministic)
        return self.classifier(together.astype(jnp.float32))


class BertForQuestionAnswering(nn.Module):
    """Where an answer starts and ends: two logits for every token."""

    config: EncoderConfig

    def setup(self) -> None:
        self.encoder = architecture_of(self.config).modules().encoder(self.config)
        self.span = output_layer(self.config, 2, "span")

    def __call__(self, batch: Batch, deterministic: bool = True) -> Float32[Array, "B L 2"]:
        """The logits of start and end, of inputs int [B, L]."""
        hidden_states = _encode(self.encoder, batch, deterministic)
        return self.span(hidden_states.astype(jnp.float32))


class BertForMultipleChoice(nn.Module):
    """Which of C sequences: one score for the pooled output of each."""

    config: EncoderConfig
    classifier_dropout: float = 0.1

    def setup(self) -> None:
        self.encoder = architecture_of(self.config).modules().encoder(self.config)
        self.pooler = pooler_of(self.config)
        self.dropout = Dropout(self.classifier_dropout)
        self.classifier = output_layer(self.config, 1, "classifier")

    def __call__(self, batch: Batch, deterministic: bool = True) -> Float32[Array, "B C"]:
        """The logits of inputs int [B, C, L], `ABSENT` for a choice without any token."""
        choices = batch["input_ids"].shape[:2]
        flat = {name: batch[name].reshape(-1, batch[name].shape[-1]) for name in _INPUTS}
        pooled = self.pooler(_encode(self.encoder, flat, deterministic, _first(flat)))
        pooled = self.dropout(pooled, deterministic=deterministic)
        logits = self.classifier(pooled.astype(jnp.float32)).reshape(choices)
        return jnp.where(present_choices(batch), logits, ABSENT)


def present_choices(batch: Batch) -> AnyArray:
    """bool [B, C]: which choices there are; the others only fill up to the most of a data set."""
    return batch["attention_mask"][:, :, 0] > 0


class BertForSentenceScoring(nn.Module):
    """How much each sentence belongs into a summary: the hidden state of its [CLS], one layer.

    BertSum with its simple classifier (arXiv:1903.10318, section 2). The parameters are those of
    `BertForTokenClassification` with one label.
    """

    config: EncoderConfig
    classifier_dropout: float = 0.1

    def setup(self) -> None:
        self.encoder = architecture_of(self.config).modules().encoder(self.config)
        self.dropout = Dropout(self.classifier_dropout)
        self.classifier = output_layer(self.config, 1, "classifier")

    def __call__(self, batch: Batch, deterministic: bool = True) -> Float32[Array, "B S"]:
        """The logits of inputs int [B, L] and "cls_positions" int [B, S]."""
        sentences = _encode(self.encoder, batch, deterministic, batch["cls_positions"])  # (B, S, H)
        sentences = self.dropout(sentences, deterministic=deterministic)
        return self.classifier(sentences.astype(jnp.float32))[..., 0]


# A logit that leaves nothing to a softmax; finite, so that differences of two are not NaN (R-Drop).
ABSENT = -1e9
_INPUTS = ("input_ids", "token_type_ids", "attention_mask")
