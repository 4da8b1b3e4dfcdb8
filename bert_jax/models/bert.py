"""The BERT encoder (Devlin et al. 2019, arXiv:1810.04805), top to bottom.

A variable collection "adapters", if `apply` gets one, adds what `adapters.py` describes.

Legend of shapes: B batch, L sequence length, Q positions that attend, H hidden size, N attention
heads, D = H / N head size, F feed-forward (intermediate) size, V vocabulary size, K predictions.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from bert_jax.layers.arrays import AnyArray
from bert_jax.layers.attention import dot_product_attention
from bert_jax.layers.attention_mask import AttentionMask, Rule
from bert_jax.layers.dropout import Dropout
from bert_jax.layers.gelu import gelu
from bert_jax.layers.layer_norm import layer_norm
from bert_jax.layers.projection import from_positions_last, to_positions_last
from bert_jax.models.adapters import bottleneck, with_prefix
from bert_jax.models.config import BertConfig
from bert_jax.models.initialization import bias_initializer, initializer
from bert_jax.parallel.sharding import constrain


def dense(config: BertConfig, features: int, axes: tuple[str, str], name: str) -> nn.Dense:
    """A layer x @ kernel [in, out] + bias [out]; `axes` are the kernel's logical axes."""
    return nn.Dense(
        features,
        dtype=jnp.dtype(config.dtype),
        kernel_init=initializer(config, *axes),
        bias_init=bias_initializer(axes[1]),
        name=name,
    )


def activation(config: BertConfig) -> Callable[[jax.Array], jax.Array]:
    """The GELU (arXiv:1606.08415) that `config.hidden_act` names."""
    return partial(gelu, approximate=config.hidden_act == "gelu_tanh")


class LayerNorm(nn.Module):
    """Layer normalisation (arXiv:1607.06450) with statistics in float32."""

    config: BertConfig

    @nn.compact
    def __call__(self, x: Float[Array, "*S H"]) -> Float[Array, "*S H"]:
        """Normalises the last axis of x; the result has the compute dtype."""
        ones = nn.with_logical_partitioning(nn.initializers.ones_init(), ("hidden",))
        scale: Any = self.param("scale", ones, x.shape[-1:])
        bias: Any = self.param("bias", bias_initializer("hidden"), x.shape[-1:])
        return layer_norm(x.astype(self.config.dtype), scale, bias, self.config.layer_norm_eps)


class Embeddings(nn.Module):
    """Word + token type + position embeddings, LayerNorm, dropout."""

    config: BertConfig

    def setup(self) -> None:
        config = self.config

        def table(name: str, axis: str, rows: int) -> Any:
            return self.param(name, initializer(config, axis, "embed"), (rows, config.hidden_size))

        self.word_embeddings = table("word_embeddings", "vocab", config.vocab_size)
        self.token_type_embeddings = table(
            "token_type_embeddings", "token_type", config.type_vocab_size
        )
        self.position_embeddings = table(
            "position_embeddings", "position", config.max_position_embeddings
        )
        self.norm = LayerNorm(config, name="norm")
        self.dropout = Dropout(config.hidden_dropout_prob)

    def __call__(
        self,
        input_ids: Int[AnyArray, "B L"],
        token_type_ids: Int[AnyArray, "B L"],
        position_ids: Int[AnyArray, "B L"] | None,
        deterministic: bool,
    ) -> Float[Array, "B L H"]:
        """The first hidden states; `position_ids` are those of `Encoder`."""
        if position_ids is None:
            position_embeddings = self.position_embeddings[: input_ids.shape[1]]
        else:
            position_embeddings = jnp.take(self.position_embeddings, position_ids, axis=0)
        x = (
            jnp.take(self.word_embeddings, input_ids, axis=0)
            # For two rows a product with one-hot vectors is cheaper than a gather and its scatter.
            + jax.nn.one_hot(token_type_ids, self.config.type_vocab_size)
            @ self.token_type_embeddings
            + position_embeddings
        )  # (B, L, H), float32
        x = self.norm(x)
        return self.dropout(x, deterministic=deterministic)


class KernelAndBias(nn.Module):
    """The parameters of a dense layer, for callers that multiply in a layout of their own."""

    config: BertConfig
    axes: tuple[str, str]

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "H H"], Float[Array, " H"]]:
        """Kernel and bias in the compute dtype."""
        hidden = self.config.hidden_size
        kernel = self.param("kernel", initializer(self.config, *self.axes), (hidden, hidden))
        bias = self.param("bias", bias_initializer(self.axes[1]), (hidden,))
        dtype = jnp.dtype(self.config.dtype)
        return jnp.asarray(kernel, dtype), jnp.asarray(bias, dtype)


class SelfAttention(nn.Module):
    """Multi-head attention: projections, `dot_product_attention`, projection."""

    config: BertConfig

    @nn.compact
    def __call__(
        self,
        from_states: Float[Array, "B Q H"],
        to_states: Float[Array, "B L H"],
        mask: AttentionMask,
        deterministic: bool,
    ) -> Float[Array, "B Q H"]:
        """Attention of `from_states` to `to_states`, whose tokens `mask` describes."""
        config = self.config
        batch, length, hidden = to_states.shape
        heads = config.num_attention_heads

        def project(name: str, x: jax.Array) -> jax.Array:
            kernel, bias = KernelAndBias(config, ("embed", "heads"), name=name)()
            y = to_positions_last(x, kernel, bias)  # (B, H, L)
            y = y.reshape(batch, heads, hidden // heads, -1)
            return constrain(y, "batch", "heads", "hidden", "length")

        rate = 0.0 if deterministic else config.attention_probs_dropout_prob
        query = project("query", from_states)
        key, value = (project(name, to_states) for name in ("key", "value"))
        adapters = self.variables.get("adapters", {})
        if "prefix_keys" in adapters:
            key = with_prefix(key, adapters["prefix_keys"])
            value = with_prefix(value, adapters["prefix_values"])
            mask = mask.after_prefix(key.shape[-1] - length)
        context = dot_product_attention(
            query, key, value, mask, self.make_rng("dropout") if rate else None, rate
        )  # (B, N, D, Q)
        kernel, bias = KernelAndBias(config, ("heads", "embed"), name="output")()
        return from_positions_last(context.reshape(batch, hidden, -1), kernel, bias)


class FeedForward(nn.Module):
    """Dense, GELU, dense."""

    config: BertConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B L H"]) -> Float[Array, "B L H"]:
        """What the block adds to x, before dropout."""
        config = self.config
        x = dense(config, config.intermediate_size, ("embed", "mlp"), "intermediate")(x)
        x = activation(config)(constrain(x, "batch", "length", "mlp"))  # (B, L, F)
        return dense(config, config.hidden_size, ("mlp", "embed"), "output")(x)


class Block(nn.Module):
    """Attention and feed-forward, each followed by dropout, residual sum and LayerNorm."""

    config: BertConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L H"],
        mask: AttentionMask,
        deterministic: bool,
        positions: Int[AnyArray, "B Q"] | None = None,
    ) -> Float[Array, "B _ H"]:
        """The hidden states after the block, at `positions` only if they are given."""
        config = self.config
        dropout = Dropout(config.hidden_dropout_prob)
        adapters = self.variables.get("adapters", {})
        to_states = x
        if positions is not None:
            x = jnp.take_along_axis(x, positions[..., None], axis=1)
        attention = SelfAttention(config, name="attention")
        attended = attention(x, to_states, mask, deterministic)
        attended = dropout(attended, deterministic=deterministic)
        if "attention_adapter" in adapters:
            attended += bottleneck(attended, adapters["attention_adapter"], activation(config))
        x = LayerNorm(config, name="attention_norm")(x + attended)
        transformed = FeedForward(config, name="feed_forward")(x)
        transformed = dropout(transformed, deterministic=deterministic)
        if "feed_forward_adapter" in adapters:
            weights = adapters["feed_forward_adapter"]
            transformed += bottleneck(transformed, weights, activation(config))
        norm = LayerNorm(config, name="feed_forward_norm")
        x += transformed
        if "output_adapter" in adapters:
            x += bottleneck(norm(x), adapters["output_adapter"], nn.relu)
        return norm(x)


def remat(config: BertConfig, block: type[Block]) -> type[Block]:
    """The block with the rematerialisation that `config.remat` names."""
    if config.remat == "none":
        return block
    dots = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    policy = dots if config.remat == "dots" else None
    return nn.remat(block, policy=policy, static_argnums=3)  # deterministic; 0 is the module


class Encoder(nn.Module):
    """Embeddings and all blocks."""

    config: BertConfig

    def setup(self) -> None:
        self.embeddings = Embeddings(self.config)
        self.layers = [
            remat(self.config, Block)(self.config, name=f"layer_{index}")
            for index in range(self.config.num_hidden_layers)
        ]

    def __call__(
        self,
        input_ids: Int[AnyArray, "B L"],
        token_type_ids: Int[AnyArray, "B L"],
        attention_mask: Int[AnyArray, "B L"],
        deterministic: bool = True,
        position_ids: Int[AnyArray, "B L"] | None = None,
        positions: Int[AnyArray, "B Q"] | None = None,
    ) -> Float[Array, "B _ H"]:
        """The last hidden states, in the compute dtype.

        Args:
          input_ids, token_type_ids: of the tokens.
          attention_mask: 0 for padding; in a row of several sequences, the number of the sequence.
          deterministic: False applies dropout, which needs the rng "dropout".
          position_ids: for rows of several sequences, whose tokens attend to their own sequence
            only: each token's position in its sequence. None for rows of one sequence.
          positions: where hidden states are wanted; the last block computes no others. None for
            everywhere. Only for rows of one sequence.

        Raises:
          ValueError: both `position_ids` and `positions` are given.
        """
        packed = position_ids is not None
        if packed and positions is not None:
            raise ValueError("positions cannot be chosen in rows of several sequences")
        mask = AttentionMask(jnp.asarray(attention_mask), Rule(packed))
        x = self.embeddings(input_ids, token_type_ids, position_ids, deterministic)
        for layer in self.layers:
            wanted = positions if layer is self.layers[-1] else None
            x = constrain(x, "batch", "length", "hidden")
            x = layer(x, mask, deterministic, wanted)
        return constrain(x, "batch", "length", "hidden")


class Pooler(nn.Module):
    """The first token's hidden state through dense and tanh."""

    config: BertConfig

    @nn.compact
    def __call__(self, hidden_states: Float[Array, "B L H"]) -> Float[Array, "B H"]:
        """A summary of the whole sequence."""
        layer = dense(self.config, self.config.hidden_size, ("embed", "hidden"), "dense")
        return jnp.tanh(layer(hidden_states[:, 0]))


class MaskedLMHead(nn.Module):
    """Gather, dense, GELU, LayerNorm, product with the tied word embeddings, vocabulary bias."""

    config: BertConfig

    @nn.compact
    def __call__(
        self,
        hidden_states: Float[Array, "B L H"],
        masked_positions: Int[AnyArray, "B K"],
        word_embeddings: Float[AnyArray, "V H"],
    ) -> Float32[Array, "B K V"]:
        """Logits at the masked positions only; `word_embeddings` is the encoder's own table."""
        config = self.config
        x = jnp.take_along_axis(hidden_states, masked_positions[..., None], axis=1)  # (B, K, H)
        x = dense(config, config.hidden_size, ("embed", "hidden"), "transform")(x)
        x = LayerNorm(config, name="norm")(activation(config)(x))
        bias: Any = self.param("bias", bias_initializer("vocab"), (config.vocab_size,))
        table = word_embeddings.astype(x.dtype)
        logits = jnp.einsum("bkh,vh->bkv", x, table, preferred_element_type=jnp.float32)
        return logits + bias
