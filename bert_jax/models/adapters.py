"""Parameter-efficient fine-tuning: LoRA, adapters, prefixes, BitFit.

A method leaves the model's own parameters as they are and adds small ones in a further part,
"adapters", which mirrors the paths of the encoder. LoRA's change kernels before the model sees
them; the model reads the others from the collection "adapters" (`bert.py`), and without that it is
the very same program. See docs/decisions/parameter-efficient.md.

Legend of shapes: H hidden size, R rank, M bottleneck, P prefix length, N heads, D = H / N.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float

from bert_jax.errors import UserError
from bert_jax.layers.arrays import AnyArray
from bert_jax.models.architecture import Architecture, EncoderConfig
from bert_jax.models.config import MethodConfig, can_be_merged

PART = "adapters"
# Deviation of a bottleneck's kernels, truncated at two: as in the code of Houlsby et al., who find
# (section 3.6) that anything below 1e-2 works. At first the layer hardly changes its input.
NEAR_IDENTITY = 1e-3
# As of BERT's kernels. A prefix gets its share of the attention from the first step on, so no start
# equals the base exactly.
PREFIX_DEVIATION = 0.02
_BOTTLENECKS = ("houlsby", "pfeiffer")


def check_method(method: MethodConfig, architecture: Architecture) -> None:
    """Refuses a method that a family does not support."""
    unknown = [target for target in method.targets if target not in architecture.kernels]
    if method.name == "lora" and unknown:
        raise UserError(
            f"method.targets is {' '.join(method.targets)}; a model of the architecture "
            f"{architecture.name} has {', '.join(architecture.kernels)}"
        )
    if method.name in (*_BOTTLENECKS, "prefix") and method.name not in architecture.adapters:
        methods = ", ".join(("full", "lora", "bitfit", *architecture.adapters))
        raise UserError(
            f"method.name is {method.name}, which the architecture {architecture.name} does not "
            f"support; choose one of {methods}"
        )


def init_adapters(
    method: MethodConfig,
    architecture: Architecture,
    config: EncoderConfig,
    params: Any,
    key: jax.Array,
) -> Any:
    """Fresh small parameters: the part "adapters", float32; empty for "full" and "bitfit".

    They mirror the model's `params` and, like these, are boxed with logical axis names. `key` is a
    typed random key.
    """
    base = flatten_dict(nn.unbox(params), sep="/")
    hidden = config.hidden_size
    shapes: dict[str, tuple[tuple[int, ...], float]] = {}  # path -> shape, deviation
    for block in sorted(architecture.blocks(config)[1:]):  # the keys depend on this order
        if method.name == "lora":
            for target in method.targets:
                path = f"{block}/{architecture.kernels[target]}"
                inputs, outputs = base[f"{path}/kernel"].shape
                shapes[f"{path}/a"] = (inputs, method.rank), inputs**-0.5
                shapes[f"{path}/b"] = (method.rank, outputs), 0.0
        for name in architecture.adapters.get(method.name, ()):
            path = f"{block}/{name}"
            if method.name in _BOTTLENECKS:
                width = method.bottleneck
                shapes[f"{path}/down/kernel"] = (hidden, width), NEAR_IDENTITY
                shapes[f"{path}/down/bias"] = (width,), 0.0
                shapes[f"{path}/up/kernel"] = (width, hidden), NEAR_IDENTITY
                shapes[f"{path}/up/bias"] = (hidden,), 0.0
            else:
                shapes[path] = (hidden, method.prefix_length), PREFIX_DEVIATION
    keys = jax.random.split(key, max(len(shapes), 1))
    return unflatten_dict(
        {
            # They are too small to be worth splitting over devices.
            path: nn.LogicallyPartitioned(
                deviation * jax.random.truncated_normal(one, -2.0, 2.0, shape),
                ("hidden",) * len(shape),
            )
            for one, (path, (shape, deviation)) in zip(keys, shapes.items(), strict=False)
        },
        sep="/",
    )


def variables(method: MethodConfig, params: Mapping[str, Any]) -> dict[str, Any]:
    """The collections for the model's `apply`, from all parameters."""
    if method.name == "lora":
        return {"params": merge(method, params)}
    base = {name: part for name, part in params.items() if name != PART}
    return {"params": base} | ({PART: params[PART]} if PART in params else {})


def merge(method: MethodConfig, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of an ordinary model that computes the same, without the part "adapters".

    LoRA's kernels [in, out] become kernel + alpha / rank * a @ b (section 4.1), with a [in, R] and
    b [R, out].
    """
    if not can_be_merged(method):
        raise UserError(
            f"{method.name} adds layers that an ordinary model lacks, so it cannot be merged into "
            "its weights; use the run's own folder"
        )
    flat = flatten_dict(dict(params), sep="/")
    adapters = {path: flat.pop(path) for path in list(flat) if path.startswith(f"{PART}/")}
    for path, a in adapters.items():
        if path.endswith("/a"):
            kernel = f"{path.removeprefix(f'{PART}/').removesuffix('/a')}/kernel"
            b = adapters[f"{path.removesuffix('/a')}/b"]
            change = jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
            flat[kernel] = flat[kernel] + method.alpha / method.rank * change
    return unflatten_dict(flat, sep="/")


def frozen_paths(method: MethodConfig, params: Any) -> tuple[str, ...]:
    """What a method does not train of the encoder, for `OptimizerConfig.frozen`.

    `params` are the parameters or their shapes.
    """
    if method.name == "full":
        return ()
    if method.name in _TRAINED:
        trained = _TRAINED[method.name]
        paths = flatten_dict({"encoder": params["encoder"]}, sep="/")
        return tuple(path for path in paths if not trained(path))
    return ("encoder",)


# Which of the encoder's parameters are trained; Houlsby et al., section 2.1: its LayerNorms.
_TRAINED: dict[str, Callable[[str], bool]] = {
    "bitfit": lambda path: path.endswith("/bias"),
    "houlsby": lambda path: path.split("/")[-2].endswith("norm"),
}


def frozen_layers(number: int, blocks: Sequence[str]) -> tuple[str, ...]:
    """The embeddings and the lowest `number` blocks, for `OptimizerConfig.frozen`; none for 0."""
    if number >= len(blocks):
        raise UserError(f"frozen_layers is {number}; the model has {len(blocks) - 1} blocks")
    return tuple(blocks[: number + 1]) if number else ()


def bottleneck(
    x: Float[Array, "*S H"],
    weights: Mapping[str, Any],
    activation: Callable[[jax.Array], jax.Array],
) -> Float[Array, "*S H"]:
    """What a small layer adds to x: activation(x down) up, with biases, in the dtype of x.

    The weights "down" have a kernel [H, M] and a bias [M]; "up" has a kernel [M, H] and a bias [H].
    """
    down, up = jax.tree.map(lambda array: array.astype(x.dtype), (weights["down"], weights["up"]))
    return activation(x @ down["kernel"] + down["bias"]) @ up["kernel"] + up["bias"]


def with_prefix(
    x: Float[Array, "B N D L"], prefix: Float[AnyArray, "H P"]
) -> Float[Array, "B N D P+L"]:
    """Keys or values, preceded by those of a prefix."""
    batch, heads, size, _ = x.shape
    prefix = prefix.astype(x.dtype).reshape(1, heads, size, -1)
    return jnp.concatenate([jnp.broadcast_to(prefix, (batch, *prefix.shape[1:])), x], axis=-1)
