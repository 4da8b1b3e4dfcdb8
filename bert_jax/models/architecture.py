"""What a family of encoders is: the record by which everything outside its own files knows it.

A family is its own files and a line in `registry.py`. Its parameters follow what all models here
have in common: the parts "encoder", "pooler" and "masked_lm"; "kernel" [in, out] and "bias" of a
dense layer, "scale" and "bias" of a LayerNorm, whose own name ends in "norm". An operation is
counted to a part of the model by the names of its modules (`analysis/hlo.py`).

Nothing here imports jax: command lines are read without it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Self

from bert_jax.models.foreign_names import ForeignNames


class EncoderConfig:
    """What the configurations of all families have in common; each is a frozen dataclass.

    Attributes:
      vocab_size: number of pieces of the tokenizer.
      hidden_size: width H of the encoder.
      num_hidden_layers: number of blocks.
      num_attention_heads: heads N.
      max_position_embeddings: longest sequence.
      type_vocab_size: number of token types (segments); 0 for a family without them.
      initializer_range: deviation of the normal distribution, cut at two deviations, that weights
        start from.
      remat: what the backward pass computes again instead of keeping it, see `bert.BertConfig`.
      dtype: compute dtype.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int
    type_vocab_size: int
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
    """The layers of a family, flax modules made from its configuration.

    Attributes:
      encoder: called like `bert.Encoder`; the path of its word table leads over attributes.
      masked_lm: called like `bert.MaskedLMHead`.
      pooler: [B, L, H] -> [B, H]; None for a family without one, whose first token stands for the
        sequence.
    """

    encoder: Callable[[Any], Any]
    masked_lm: Callable[[Any], Any]
    pooler: Callable[[Any], Any] | None


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A family of encoders.

    Paths are those of parameters, names joined by "/".

    Attributes:
      name: in saved configurations, and as `transformers`' model type.
      config: its configuration, a frozen dataclass.
      modules: imports and gives its layers.
      embeddings: path of what is below the blocks.
      block: path of a block, with "{}" for its number.
      word_table: path of the embeddings [V, H] of the pieces, to which the masked-LM head is tied.
      vocabulary_bias: path of that head's bias [V].
      position_table: path of the embeddings of the positions; None for a family without them.
      kernels: paths within a block of the dense layers that LoRA may change, by their names on the
        command line.
      adapters: paths within a block at which it takes the small parameters of a method, by the
        method's name; methods that are not there are not for this family.
      forward_flops: (config, sequence length, predictions) -> operations of a sequence's forward
        pass; only matrix products count, with two for a multiply-add.
      names: what others call its parameters; None where nobody else has such a model.
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
        """The paths of the embeddings and of all blocks, from below."""
        numbers = range(config.num_hidden_layers)
        return (self.embeddings, *(self.block.format(number) for number in numbers))

    def class_with(self, head: str) -> str:
        """The class of `transformers` with a head such as "ForTokenClassification".

        Empty where there is none, or where `head` is.
        """
        name = f"{self.names.stem}{head}" if self.names and head else ""
        return name if self.names and name in self.names.classes else ""
