from bert_jax.models.bert import BertConfig
from bert_jax.models.flops import model_flops, peak_flops


def test_model_flops_equal_a_count_of_products():
    """The forward products of BERT-base one by one: (rows, inner, columns)."""
    config = BertConfig()
    batch, length, slots, hidden = 2, 128, 20, config.hidden_size
    tokens = batch * length
    layer = 4 * [(tokens, hidden, hidden)]
    layer += [(tokens, hidden, config.intermediate_size)] * 2
    layer += [(batch * config.num_attention_heads * length, hidden // 12, length)] * 2
    head = [(batch * slots, hidden, hidden), (batch * slots, hidden, config.vocab_size)]
    products = config.num_hidden_layers * layer + head
    expected = 3 * sum(2 * m * k * n for m, k, n in products)
    assert expected == model_flops(
        config, batch_size=batch, sequence_length=length, max_predictions=slots
    )


def test_peak_is_known_for_accelerators_only():
    assert peak_flops("TPU v5 lite", "bfloat16") == 197e12
    assert peak_flops("TPU v5p", "bfloat16") == 459e12
    assert peak_flops("cpu", "float32") is None
