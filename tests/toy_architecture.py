"""A small family of encoders that shares neither names nor shape with BERT.

No token types, no table of positions, no pooler and no bias in a block; norms before, a gate in the
feed-forward layer, and a first block whose attention has no norm.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from bert_jax.models.architecture import Architecture, EncoderConfig, Modules
from bert_jax.models.foreign_names import ForeignNames, Row, dense, numbers_of
from bert_jax.models.initialization import initializer


@dataclasses.dataclass(frozen=True)
class ToyConfig(EncoderConfig):
    """The toy.

    Attributes:
      gate_size: width of the gated feed-forward layer.
      dropout: of what the blocks add.
    """

    vocab_size: int = 60
    hidden_size: int = 16
    num_hidden_layers: int = 2
    num_attention_heads: int = 2
    gate_size: int = 24
    dropout: float = 0.1
    max_position_embeddings: int = 32
    initializer_range: float = 0.2
    remat: Literal["none", "dots", "block"] = "none"
    dtype: Literal["float32", "bfloat16"] = "float32"
    type_vocab_size: ClassVar[int] = 0

    def validate(self) -> None:
        assert self.hidden_size % self.num_attention_heads == 0

    def with_dropout(self, rate: float) -> "ToyConfig":
        return dataclasses.replace(self, dropout=rate)


def _matrix(config: ToyConfig, size: int, axes: tuple[str, str], name: str) -> nn.Dense:
    kernel_init = initializer(config, *axes)
    return nn.Dense(size, use_bias=False, kernel_init=kernel_init, dtype=config.dtype, name=name)


def _norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(use_bias=False, name=name)


class Tokens(nn.Module):
    config: ToyConfig

    def setup(self) -> None:
        shape = self.config.vocab_size, self.config.hidden_size
        self.table = self.param("table", initializer(self.config, "vocab", "embed"), shape)

    def __call__(self, input_ids: jax.Array) -> jax.Array:
        return jnp.take(self.table, input_ids, axis=0)


class Mixer(nn.Module):
    config: ToyConfig

    @nn.compact
    def __call__(self, x: jax.Array, attention_mask: jax.Array) -> jax.Array:
        config = self.config
        query, key, value = (
            _matrix(config, config.hidden_size, ("embed", "heads"), name)(x).reshape(
                *x.shape[:2], config.num_attention_heads, -1
            )
            for name in ("query", "key", "value")
        )
        scores = jnp.einsum("bqnd,bknd->bnqk", query, key)
        scores = jnp.where(attention_mask[:, None, None] > 0, scores, -1e9)
        context = jnp.einsum("bnqk,bknd->bqnd", nn.softmax(scores), value)
        output = _matrix(config, config.hidden_size, ("heads", "embed"), "output")
        return output(context.reshape(x.shape))


class Gated(nn.Module):
    config: ToyConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        config = self.config
        up, gate = (
            _matrix(config, config.gate_size, ("embed", "mlp"), name)(x) for name in ("up", "gate")
        )
        return _matrix(config, config.hidden_size, ("mlp", "embed"), "down")(up * nn.sigmoid(gate))


class Block(nn.Module):
    config: ToyConfig
    is_first: bool

    @nn.compact
    def __call__(self, x: jax.Array, attention_mask: jax.Array, deterministic: bool) -> jax.Array:
        dropout = nn.Dropout(self.config.dropout, deterministic=deterministic)
        seen = x if self.is_first else _norm("mixer_norm")(x)
        x += dropout(Mixer(self.config, name="mixer")(seen, attention_mask))
        return x + dropout(Gated(self.config, name="gated")(_norm("gated_norm")(x)))


class Encoder(nn.Module):
    config: ToyConfig

    def setup(self) -> None:
        self.tokens = Tokens(self.config)
        numbers = range(self.config.num_hidden_layers)
        self.blocks = [Block(self.config, i == 0, name=f"block_{i}") for i in numbers]
        self.final_norm = _norm("final_norm")

    def __call__(
        self,
        input_ids: jax.Array,
        token_type_ids: jax.Array,
        attention_mask: jax.Array,
        deterministic: bool = True,
        position_ids: jax.Array | None = None,
        positions: jax.Array | None = None,
    ) -> jax.Array:
        x = self.tokens(input_ids)
        for block in self.blocks:
            x = block(x, attention_mask, deterministic)
        x = self.final_norm(x)
        return x if positions is None else jnp.take_along_axis(x, positions[..., None], axis=1)


class MaskedLM(nn.Module):
    config: ToyConfig

    @nn.compact
    def __call__(self, x: jax.Array, masked_positions: jax.Array, table: jax.Array) -> jax.Array:
        x = jnp.take_along_axis(x, masked_positions[..., None], axis=1)
        bias = self.param("pieces", nn.initializers.zeros_init(), (self.config.vocab_size,))
        return jnp.einsum("bkh,vh->bkv", x, table) + bias


def _rows(config: ToyConfig) -> list[Row]:
    hidden, vocabulary = config.hidden_size, config.vocab_size
    rows = [
        Row("encoder/tokens/table", "toy.tokens.weight", "", (vocabulary, hidden)),
        Row("encoder/final_norm/scale", "toy.final_norm.weight", "", (hidden,)),
        Row("masked_lm/pieces", "decoder.bias", "", (vocabulary,)),
        *dense("classifier", "classifier", "", hidden, None),
    ]
    for i in range(config.num_hidden_layers):
        for norm in ("mixer", "gated")[i == 0 :]:
            name = f"encoder/block_{i}/{norm}_norm/scale"
            rows.append(Row(name, f"toy.layers.{i}.{norm}_norm.weight", "", (hidden,)))
        for name, *shape in (
            *((f"mixer/{name}", hidden, hidden) for name in ("query", "key", "value", "output")),
            ("gated/up", hidden, config.gate_size),
            ("gated/gate", hidden, config.gate_size),
            ("gated/down", config.gate_size, hidden),
        ):
            theirs = f"toy.layers.{i}.{name.replace('/', '.')}.weight"
            ours = f"encoder/block_{i}/{name}/kernel"
            rows.append(Row(ours, theirs, "", tuple(shape), ("hugging_face",)))
    return rows


def _config_to(config: ToyConfig) -> dict[str, Any]:
    return {name: x for name, x in dataclasses.asdict(config).items() if not isinstance(x, str)}


def _forward_flops(config: ToyConfig, length: int, predictions: int) -> float:
    hidden = config.hidden_size
    block = 2 * (4 * hidden**2 + 3 * hidden * config.gate_size) + 4 * length * hidden
    head = 2 * hidden * config.vocab_size
    return config.num_hidden_layers * length * block + predictions * head


TOY = Architecture(
    name="toy",
    config=ToyConfig,
    modules=lambda: Modules(Encoder, MaskedLM, pooler=None),
    embeddings="encoder/tokens",
    block="encoder/block_{}",
    word_table="encoder/tokens/table",
    vocabulary_bias="masked_lm/pieces",
    position_table=None,
    kernels={"query": "mixer/query", "gate": "gated/gate"},
    adapters={},
    forward_flops=_forward_flops,
    names=ForeignNames(
        rows=_rows,
        classes={
            "ToyForMaskedLM": ("encoder", "masked_lm"),
            "ToyForSequenceClassification": ("encoder", "classifier"),
            "ToyModel": ("encoder",),
        },
        stem="Toy",
        prefix="toy.",
        config_from=lambda values: ToyConfig(**numbers_of(ToyConfig, values)),
        config_to=_config_to,
        tied={"decoder.weight": "toy.tokens.weight"},
    ),
)
