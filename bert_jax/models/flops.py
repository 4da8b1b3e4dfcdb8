"""Operations of a training step and peaks of devices, from which MFU is computed."""

from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.registry import architecture_of

# Dense peak of one chip or card in FLOP/s by compute dtype, from the data sheets; the keys are
# prefixes of jax's `device_kind`.
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
    """Dense peak of one device in FLOP/s, None if it is unknown, as a CPU's is."""
    for kind, peaks in PEAK_FLOPS.items():
        if device_kind.startswith(kind):
            return peaks.get(dtype)
    return None


def model_flops(
    config: EncoderConfig, *, batch_size: int, sequence_length: int, max_predictions: int
) -> float:
    """FLOPs of the matrix products of one training step; the backward pass has twice the forward's.

    See `Architecture.forward_flops`.
    """
    forward = architecture_of(config).forward_flops(config, sequence_length, max_predictions)
    return 3.0 * batch_size * forward
