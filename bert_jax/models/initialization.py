"""Fresh weights, and the output layers that all families share."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from bert_jax.models.architecture import EncoderConfig


def initializer(config: EncoderConfig, *axes: str) -> Callable[..., Any]:
    """Normal, cut at two deviations and not rescaled, as in the original; `axes` are logical."""
    return nn.with_logical_partitioning(
        jax.nn.initializers.truncated_normal(config.initializer_range), axes
    )


def output_layer(config: EncoderConfig, outputs: int, name: str) -> nn.Dense:
    """float32 x [..., H] -> [..., outputs]."""
    return nn.Dense(
        outputs,
        kernel_init=initializer(config, "hidden", "classes"),
        bias_init=nn.with_logical_partitioning(nn.initializers.zeros_init(), ("classes",)),
        name=name,
    )
