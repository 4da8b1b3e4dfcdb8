"""The models that several benchmarks measure, in bfloat16."""

from bert_jax.models.bert import BertConfig

BASE = BertConfig(dtype="bfloat16")
LARGE = BertConfig(
    hidden_size=1024,
    num_hidden_layers=24,
    num_attention_heads=16,
    intermediate_size=4096,
    dtype="bfloat16",
)
