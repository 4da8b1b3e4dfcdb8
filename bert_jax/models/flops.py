"""Operations of a training step and the peaks of devices: what MFU is counted from."""

from bert_jax.models.bert import BertConfig

# Dense peak of one chip or card in FLOP/s by compute dtype, from the makers' data sheets; the keys
# are the start of jax's `device_kind`.
PEAK_FLOPS: dict[str, dict[str, float]] = {
    "NVIDIA H100 80GB HBM3": {"bfloat16": 989e12, "float32": 67e12},
    "NVIDIA H200": {"bfloat16": 989e12, "float32": 67e12},
    "NVIDIA A100": {"bfloat16": 312e12, "float32": 19.5e12},
    "TPU v4": {"bfloat16": 275e12},
    "TPU v5 lite": {"bfloat16": 197e12},
    "TPU v5": {"bfloat16": 459e12},
    "TPU v6 lite": {"bfloat16": 918e12},
}


def peak_flops(device_kind: str, dtype: str) -> float | None:
    """Dense peak of one device in FLOP/s, None where it is not known (a CPU's is not)."""
    for kind, peaks in PEAK_FLOPS.items():
        if device_kind.startswith(kind):
            return peaks.get(dtype)
    return None


def model_flops(
    config: BertConfig, *, batch_size: int, sequence_length: int, max_predictions: int
) -> float:
    """Floating-point operations of one training step, forward and backward.

    Only matrix products count: encoder, attention scores and context, and the masked-LM head at its
    K positions; two per multiply-add, and the backward pass is twice the forward pass.
    """
    hidden, feed_forward = config.hidden_size, config.intermediate_size
    per_token = config.num_hidden_layers * (
        2 * (4 * hidden * hidden + 2 * hidden * feed_forward) + 4 * sequence_length * hidden
    )
    per_prediction = 2 * hidden * (hidden + config.vocab_size)
    forward = sequence_length * per_token + max_predictions * per_prediction
    return 3.0 * batch_size * forward
