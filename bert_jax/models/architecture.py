"""A family of encoders, as everything outside its own files knows it.

The parameters of all families share some names: the parts "encoder", "pooler" and "masked_lm";
"kernel" [in, out] and "bias" of a dense layer, "scale" and "bias" of a LayerNorm, whose own name
ends in "norm". Names of modules also tell which part of a model an operation belongs to
(`analysis/hlo.py`).

Nothing here imports jax: command lines are parsed without it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Self

from bert_jax.models.foreign_names import ForeignNames


class EncoderConfig:
    """The fields, described in `BertConfig`, that the frozen dataclass of each family has."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int
    type_vocab_size: int  # 0 for a family without token types
    initializer_range: float
    remat: Literal["none", "dots", "block"]
    dtype: Literal["float32", "bfloat16"]

    def validate(self) -> None:
        """Refuses sizes that do not fit together."""
        raise NotImplementedError

    def with_dropout(self, rate: float) -> Self:
        """The same with another dropout of hidden states and attention."""
        raise NotImplementedError


class Modules(NamedTuple):
    """The layers of a family: from its configuration, modules that are called like BERT's."""

    encoder: Callable[[Any], Any]  # its word table is found by following attributes
    masked_lm: Callable[[Any], Any]
    pooler: Callable[[Any], Any] | None  # None: the first token stands for the sequence


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A family of encoders; paths are those of parameters, names joined by "/".

    Attributes:
      name: in saved configurations, and as `transformers`' model type.
      config: its configuration, a frozen dataclass.
      modules: imports and returns its layers.
      embeddings: path of what is below the blocks.
      block: path of a block, with "{}" for its number.
      word_table: path of the word embeddings [V, H], to which the masked-LM head is tied.
      vocabulary_bias: path of that head's bias [V].
      position_table: path of the position embeddings; None for a family without them.
      kernels: name on the command line -> path, within a block, of a dense layer for LoRA.
      adapters: method -> paths, within a block, of its small parameters; a method that is missing
        cannot be used with this family.
      forward_flops: (config, sequence length, predictions) -> operations of a sequence's forward
        pass: those of matrix products only, two for a multiply-add.
      names: what others call its parameters; None if nobody else has such a model.
    """

    name: str
    config: type[EncoderConfig]
    modules: Callable[[], Modules]
    embeddings: str
    block: str
    word_table: str
    vocabulary_bias: str
    position_table: str | None
    kernels: Mapping[str, str]
    adapters: Mapping[str, tuple[str, ...]]
    forward_flops: Callable[[Any, int, int], float]
    names: ForeignNames | None

    def blocks(self, config: EncoderConfig) -> tuple[str, ...]:
        """The paths of the embeddings and of all blocks, from the bottom up."""
        numbers = range(config.num_hidden_layers)
        return (self.embeddings, *(self.block.format(number) for number in numbers))

    def class_with(self, head: str) -> str:
        """`transformers`' class with a head such as "ForTokenClassification", or ""."""
        name = f"{self.names.stem}{head}" if self.names and head else ""
        return name if self.names and name in self.names.classes else ""
