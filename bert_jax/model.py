"""The BERT encoder (Devlin et al. 2019, arXiv:1810.04805), top to bottom.

Legend of shapes: B batch, L sequence length, H hidden size, N attention heads, D = H / N head size,
F feed-forward (intermediate) size, V vocabulary size.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from bert_jax.errors import UserError
from bert_jax.sharding import constrain


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """Architecture of the encoder; the names are those of the original `bert_config.json`.

    Attributes:
      vocab_size: number of pieces of the tokenizer.
      hidden_size: width H of the encoder.
      num_hidden_layers: number of blocks.
      num_attention_heads: heads N; must divide `hidden_size`.
      intermediate_size: width F of the feed-forward layer.
      hidden_act: "gelu" is the exact form of the first release, "gelu_tanh" the approximation that
        the original code uses since February 2019.
      hidden_dropout_prob: dropout of the embeddings and before both residual sums.
      attention_probs_dropout_prob: dropout of the attention probabilities.
      max_position_embeddings: longest sequence.
      type_vocab_size: number of token types (segments).
      initializer_range: deviation of the normal distribution, cut at two deviations, that weights
        start from.
      layer_norm_eps: epsilon inside the square root of LayerNorm.
      dtype: compute dtype; parameters, LayerNorm statistics and softmax stay in float32.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: Literal["gelu", "gelu_tanh"] = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    dtype: Literal["float32", "bfloat16"] = "float32"

    def validate(self) -> None:
        """Raises UserError where the sizes do not fit together."""
        for name in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"model.{name} is {getattr(self, name)}; it must be at least 1")
        if self.hidden_size % self.num_attention_heads:
            raise UserError(
                f"model.hidden_size {self.hidden_size} is not divisible by "
                f"model.num_attention_heads {self.num_attention_heads}; change one of them"
            )
        for name in ("initializer_range", "layer_norm_eps"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"model.{name} is {getattr(self, name)}; it must be positive")
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"model.{name} is {getattr(self, name)}; it must be in [0, 1)")


def initializer(config: BertConfig, *axes: str) -> Callable[..., Any]:
    """Normal, cut at two deviations and not rescaled, as in the original; `axes` are logical."""
    return nn.with_logical_partitioning(
        jax.nn.initializers.truncated_normal(config.initializer_range), axes
    )


def dense(config: BertConfig, features: int, axes: tuple[str, str], name: str) -> nn.Dense:
    """A layer x @ kernel [in, out] + bias [out] whose two axes have the logical names `axes`."""
    return nn.Dense(
        features,
        dtype=jnp.dtype(config.dtype),
        kernel_init=initializer(config, *axes),
        bias_init=nn.with_logical_partitioning(
            nn.initializers.zeros_init(), ("hidden" if axes[1] == "embed" else axes[1],)
        ),
        name=name,
    )


def activation(config: BertConfig) -> Callable[[jax.Array], jax.Array]:
    """The GELU (arXiv:1606.08415) that `config.hidden_act` names."""
    approximate = config.hidden_act == "gelu_tanh"
    return lambda x: jax.nn.gelu(x, approximate=approximate)


class LayerNorm(nn.Module):
    """Layer normalisation (arXiv:1607.06450) with statistics in float32."""

    config: BertConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises the last axis of x [..., H]; the result has the compute dtype."""
        return nn.LayerNorm(
            epsilon=self.config.layer_norm_eps,
            dtype=jnp.dtype(self.config.dtype),
            # E[x^2] - E[x]^2 loses the digits that the original's form keeps.
            use_fast_variance=False,
            scale_init=nn.with_logical_partitioning(nn.initializers.ones_init(), ("hidden",)),
            bias_init=nn.with_logical_partitioning(nn.initializers.zeros_init(), ("hidden",)),
            name="layer_norm",
        )(x)


class Embeddings(nn.Module):
    """Word + token type + position embeddings, LayerNorm, dropout."""

    config: BertConfig

    def setup(self) -> None:
        config = self.config
        self.word_embeddings = self.param(
            "word_embeddings",
            initializer(config, "vocab", "embed"),
            (config.vocab_size, config.hidden_size),
        )
        self.token_type_embeddings = self.param(
            "token_type_embeddings",
            initializer(config, "token_type", "embed"),
            (config.type_vocab_size, config.hidden_size),
        )
        self.position_embeddings = self.param(
            "position_embeddings",
            initializer(config, "position", "embed"),
            (config.max_position_embeddings, config.hidden_size),
        )
        self.norm = LayerNorm(config, name="norm")
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def __call__(
        self, input_ids: jax.Array, token_type_ids: jax.Array, deterministic: bool
    ) -> jax.Array:
        """input_ids, token_type_ids: int [B, L] -> [B, L, H]."""
        length = input_ids.shape[1]
        x = (
            jnp.take(self.word_embeddings, input_ids, axis=0)
            # Two rows: a product with one-hot vectors is cheaper than a gather and its scatter.
            + jax.nn.one_hot(token_type_ids, self.config.type_vocab_size)
            @ self.token_type_embeddings
            + self.position_embeddings[:length]
        )  # (B, L, H), float32
        x = self.norm(x)
        return self.dropout(x, deterministic=deterministic)


class SelfAttention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762)."""

    config: BertConfig

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, deterministic: bool) -> jax.Array:
        """x: [B, L, H], mask: bool [B, 1, 1, L] (True for keys to attend to) -> [B, L, H]."""
        config = self.config
        batch, length, hidden = x.shape
        heads = config.num_attention_heads

        def project(name: str) -> jax.Array:
            y = dense(config, hidden, ("embed", "heads"), name)(x)
            y = y.reshape(batch, length, heads, hidden // heads).swapaxes(1, 2)
            return constrain(y, "batch", "heads", "length", "hidden")

        query, key, value = project("query"), project("key"), project("value")  # (B, N, L, D)
        scores = (query @ key.swapaxes(2, 3)) * (hidden // heads) ** -0.5  # (B, N, L, L)
        # -10,000 is the original's penalty: finite, so a row without any key stays defined.
        scores = scores.astype(jnp.float32) + jnp.where(mask, 0.0, -10_000.0)
        probabilities = jax.nn.softmax(scores, axis=-1).astype(x.dtype)  # (B, N, L, L)
        probabilities = nn.Dropout(config.attention_probs_dropout_prob)(
            probabilities, deterministic=deterministic
        )
        context = (probabilities @ value).swapaxes(1, 2).reshape(x.shape)
        return dense(config, hidden, ("heads", "embed"), "output")(context)


class FeedForward(nn.Module):
    """Dense, GELU, dense."""

    config: BertConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x: [B, L, H] -> [B, L, H]."""
        config = self.config
        x = dense(config, config.intermediate_size, ("embed", "mlp"), "intermediate")(x)
        x = activation(config)(constrain(x, "batch", "length", "mlp"))  # (B, L, F)
        return dense(config, config.hidden_size, ("mlp", "embed"), "output")(x)


class Block(nn.Module):
    """Attention and feed-forward, each followed by dropout, residual sum and LayerNorm."""

    config: BertConfig

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, deterministic: bool) -> jax.Array:
        """x: [B, L, H], mask: bool [B, 1, 1, L] -> [B, L, H]."""
        config = self.config
        dropout = nn.Dropout(config.hidden_dropout_prob)
        attended = SelfAttention(config, name="attention")(x, mask, deterministic)
        attended = dropout(attended, deterministic=deterministic)
        x = LayerNorm(config, name="attention_norm")(x + attended)
        transformed = FeedForward(config, name="feed_forward")(x)
        transformed = dropout(transformed, deterministic=deterministic)
        return LayerNorm(config, name="feed_forward_norm")(x + transformed)


class Encoder(nn.Module):
    """Embeddings and all blocks."""

    config: BertConfig

    def setup(self) -> None:
        self.embeddings = Embeddings(self.config)
        self.layers = [
            Block(self.config, name=f"layer_{index}")
            for index in range(self.config.num_hidden_layers)
        ]

    def __call__(
        self,
        input_ids: jax.Array,
        token_type_ids: jax.Array,
        attention_mask: jax.Array,
        deterministic: bool = True,
    ) -> jax.Array:
        """The last hidden states.

        Args:
          input_ids: int [B, L].
          token_type_ids: int [B, L].
          attention_mask: int [B, L], 0 for padding.
          deterministic: False applies dropout, which needs the rng "dropout".

        Returns:
          [B, L, H] in the compute dtype.
        """
        mask = (attention_mask > 0)[:, None, None, :]
        x = self.embeddings(input_ids, token_type_ids, deterministic)
        for layer in self.layers:
            x = layer(constrain(x, "batch", "length", "hidden"), mask, deterministic)
        return constrain(x, "batch", "length", "hidden")


class Pooler(nn.Module):
    """The first token's hidden state through dense and tanh."""

    config: BertConfig

    @nn.compact
    def __call__(self, hidden_states: jax.Array) -> jax.Array:
        """hidden_states: [B, L, H] -> [B, H]."""
        pooled = dense(self.config, self.config.hidden_size, ("embed", "hidden"), "dense")(
            hidden_states[:, 0]
        )
        return jnp.tanh(pooled)
