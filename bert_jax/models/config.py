"""Options for what a model is and which of its weights are trained."""

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from bert_jax.errors import UserError
from bert_jax.models.architecture import EncoderConfig


@dataclasses.dataclass(frozen=True)
class BertConfig(EncoderConfig):
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
      initializer_range: deviation of the normal distribution, truncated at two deviations, from
        which weights are drawn.
      layer_norm_eps: epsilon inside the square root of LayerNorm.
      remat: what the backward pass recomputes instead of storing it: "none"; "dots", all but the
        results of products with parameters; "block", everything within a block.
      dtype: compute dtype; parameters, LayerNorm statistics and softmax stay in float32.
    """

    vocab_size: int = field(default=30522, metadata={"interval": "[1, inf)"})
    hidden_size: int = field(default=768, metadata={"interval": "[1, inf)"})
    num_hidden_layers: int = field(default=12, metadata={"interval": "[1, inf)"})
    num_attention_heads: int = field(default=12, metadata={"interval": "[1, inf)"})
    intermediate_size: int = field(default=3072, metadata={"interval": "[1, inf)"})
    hidden_act: Literal["gelu", "gelu_tanh"] = "gelu"
    hidden_dropout_prob: float = field(default=0.1, metadata={"interval": "[0, 1)"})
    attention_probs_dropout_prob: float = field(default=0.1, metadata={"interval": "[0, 1)"})
    max_position_embeddings: int = field(default=512, metadata={"interval": "[1, inf)"})
    type_vocab_size: int = field(default=2, metadata={"interval": "[1, inf)"})
    initializer_range: float = field(default=0.02, metadata={"interval": "(0, inf)"})
    layer_norm_eps: float = field(default=1e-12, metadata={"interval": "(0, inf)"})
    remat: Literal["none", "dots", "block"] = "none"
    dtype: Literal["float32", "bfloat16"] = "float32"

    def validate(self) -> None:
        """Raises UserError where the sizes do not fit together."""
        if self.hidden_size % self.num_attention_heads:
            raise UserError(
                f"model.hidden_size {self.hidden_size} is not divisible by "
                f"model.num_attention_heads {self.num_attention_heads}; change one of them"
            )

    def with_dropout(self, rate: float) -> "BertConfig":
        return dataclasses.replace(
            self, hidden_dropout_prob=rate, attention_probs_dropout_prob=rate
        )


Method = Literal["full", "lora", "houlsby", "pfeiffer", "prefix", "bitfit"]
_FIELDS = {
    "rank": ("lora",),
    "alpha": ("lora",),
    "targets": ("lora",),
    "bottleneck": ("houlsby", "pfeiffer"),
    "prefix_length": ("prefix",),
}


@dataclasses.dataclass(frozen=True)
class MethodConfig:
    """What is trained besides the output layer and the pooler.

    Attributes:
      name: "full", all weights; "lora", low-rank changes to some kernels (arXiv:2106.09685);
        "houlsby", a small layer after attention and after feed-forward, and the encoder's
        LayerNorms (arXiv:1902.00751); "pfeiffer", one small layer at the end of each block
        (arXiv:2005.00247); "prefix", keys and values put before those of the input
        (arXiv:2101.00190), trained directly; "bitfit", the encoder's biases (arXiv:2106.10199).
      rank: rank of LoRA's changes.
      alpha: LoRA's change is scaled by alpha / rank.
      targets: the kernels that LoRA changes.
      bottleneck: width of the small layers of "houlsby" and "pfeiffer".
      prefix_length: number of keys and values that "prefix" adds to each block.
    """

    name: Method = "full"
    rank: int = field(default=8, metadata={"interval": "[1, inf)"})
    alpha: float = field(default=8.0, metadata={"interval": "(0, inf)"})
    targets: tuple[str, ...] = ("query", "value")
    bottleneck: int = field(default=64, metadata={"interval": "[1, inf)"})
    prefix_length: int = field(default=20, metadata={"interval": "[1, inf)"})

    def validate(self) -> None:
        """Refuses a value that belongs to another method, and an empty or repetitive `targets`."""
        for name, methods in _FIELDS.items():
            value = getattr(self, name)
            if self.name not in methods and value != getattr(MethodConfig, name):
                raise UserError(
                    f"method.{name} is for {' and '.join(methods)}, but method.name is "
                    f"{self.name}; leave it out or change the method"
                )
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise UserError(
                f"method.targets is {' '.join(self.targets) or 'empty'}; name at least one kernel, "
                "and each only once"
            )


def method_of(saved: Mapping[str, Any]) -> MethodConfig:
    """The method of a run, from the configuration that is saved in its checkpoints."""
    values = dict(saved.get("method") or {})
    return MethodConfig(**values | {"targets": tuple(values.get("targets", MethodConfig.targets))})


def can_be_merged(method: MethodConfig) -> bool:
    """Whether an ordinary model can compute what a model with this method does."""
    return method.name in ("full", "lora", "bitfit")
