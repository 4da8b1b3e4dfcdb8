"""Fresh weights, and the output layers that all families share."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from bert_jax.models.architecture import EncoderConfig


def initializer(config: EncoderConfig, *axes: str) -> Callable[..., Any]:
    """Truncated normal (at two deviations, not rescaled), as in the original; logical `axes`."""
    return nn.with_logical_partitioning(
        jax.nn.initializers.truncated_normal(config.initializer_range), axes
    )


def bias_initializer(axis: str) -> Callable[..., Any]:
    """Zeros; `axis` is the logical axis of the kernel's outputs."""
    # Splitting a bias over "fsdp" would gain nothing.
    axes = ("hidden" if axis == "embed" else axis,)
    return nn.with_logical_partitioning(nn.initializers.zeros_init(), axes)


def output_layer(config: EncoderConfig, outputs: int, name: str) -> nn.Dense:
    """float32 x [..., H] -> [..., outputs]."""
    return nn.Dense(
        outputs,
        kernel_init=initializer(config, "hidden", "classes"),
        bias_init=bias_initializer("classes"),
        name=name,
    )
