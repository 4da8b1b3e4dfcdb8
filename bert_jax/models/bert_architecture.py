"""What BERT (arXiv:1810.04805) is, as an `Architecture`."""

from bert_jax.models.architecture import Architecture, Modules
from bert_jax.models.bert_names import NAMES
from bert_jax.models.config import BertConfig


def _modules() -> Modules:
    from bert_jax.models import bert

    return Modules(bert.Encoder, bert.MaskedLMHead, bert.Pooler)


def _forward_flops(config: BertConfig, length: int, predictions: int) -> float:
    """Encoder, with attention scores and context, and the masked-LM head at the predictions."""
    hidden, feed_forward = config.hidden_size, config.intermediate_size
    per_token = config.num_hidden_layers * (
        2 * (4 * hidden * hidden + 2 * hidden * feed_forward) + 4 * length * hidden
    )
    per_prediction = 2 * hidden * (hidden + config.vocab_size)
    return length * per_token + predictions * per_prediction


BERT = Architecture(
    name="bert",
    config=BertConfig,
    modules=_modules,
    embeddings="encoder/embeddings",
    block="encoder/layer_{}",
    word_table="encoder/embeddings/word_embeddings",
    vocabulary_bias="masked_lm/bias",
    position_table="encoder/embeddings/position_embeddings",
    kernels={
        "query": "attention/query",
        "key": "attention/key",
        "value": "attention/value",
        "attention_output": "attention/output",
        "intermediate": "feed_forward/intermediate",
        "feed_forward_output": "feed_forward/output",
    },
    adapters={
        "houlsby": ("attention_adapter", "feed_forward_adapter"),
        "pfeiffer": ("output_adapter",),
        "prefix": ("attention/prefix_keys", "attention/prefix_values"),
    },
    forward_flops=_forward_flops,
    names=NAMES,
)
