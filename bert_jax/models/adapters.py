"""Parameter-efficient fine-tuning: LoRA, adapters, prefixes, BitFit.

A method leaves the model's own parameters under their names and adds its small ones as one more
part, "adapters", which mirrors the paths of the encoder. LoRA's change kernels before the model
sees them; the model reads the others from the collection "adapters" (`bert.py`), and without one
it is the very same program. See docs/decisions/parameter-efficient.md.

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
# Deviation of a bottleneck's kernels, cut at two deviations: Houlsby et al., section 3.6, find
# everything below 1e-2 to work, and their code has this. The layer changes its input by next to
# nothing.
NEAR_IDENTITY = 1e-3
# Of keys and values, as of the kernels of BERT. A prefix takes its share of the attention from the
# first step on, so no start equals the base exactly.
PREFIX_DEVIATION = 0.02
_BOTTLENECKS = ("houlsby", "pfeiffer")


def check_method(method: MethodConfig, architecture: Architecture) -> None:
    """Refuses a method for which a family has no place."""
    unknown = [target for target in method.targets if target not in architecture.kernels]
    if method.name == "lora" and unknown:
        raise UserError(
            f"method.targets is {' '.join(method.targets)}; a model of the architecture "
            f"{architecture.name} has {', '.join(architecture.kernels)}"
        )
    if method.name in (*_BOTTLENECKS, "prefix") and method.name not in architecture.adapters:
        methods = ", ".join(("full", "lora", "bitfit", *architecture.adapters))
        raise UserError(
            f"method.name is {method.name}, for which the architecture {architecture.name} has no "
            f"place; it takes {methods}"
        )


def init_adapters(
    method: MethodConfig,
    architecture: Architecture,
    config: EncoderConfig,
    params: Any,
    key: jax.Array,
) -> Any:
    """Fresh small parameters, float32, boxed like the model's.

    Args:
      method: its settings, which fit the architecture.
      architecture: the model's.
      config: likewise.
      params: its parameters, boxed with their logical axis names.
      key: a typed random key.

    Returns:
      The part "adapters", a tree like `params`; empty for "full" and "bitfit".
    """
    base = flatten_dict(nn.unbox(params), sep="/")
    hidden = config.hidden_size
    shapes: dict[str, tuple[tuple[int, ...], float]] = {}  # path -> shape, deviation
    for block in sorted(architecture.blocks(config)[1:]):  # an order that the keys depend on
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
            # Too small to be worth splitting over devices.
            path: nn.LogicallyPartitioned(
                deviation * jax.random.truncated_normal(one, -2.0, 2.0, shape),
                ("hidden",) * len(shape),
            )
            for one, (path, (shape, deviation)) in zip(keys, shapes.items(), strict=False)
        },
        sep="/",
    )


def variables(method: MethodConfig, params: Mapping[str, Any]) -> dict[str, Any]:
    """The collections for the model's `apply`.

    Args:
      method: its settings.
      params: all parameters, "adapters" among them where the method has some.
    """
    if method.name == "lora":
        return {"params": merge(method, params)}
    base = {name: part for name, part in params.items() if name != PART}
    return {"params": base} | ({PART: params[PART]} if PART in params else {})


def merge(method: MethodConfig, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of an ordinary model that computes the same.

    Args:
      method: its settings.
      params: all parameters, of jax or numpy arrays.

    Returns:
      The parameters without the part "adapters". LoRA's kernels [in, out] become
      kernel + alpha / rank * a @ b (section 4.1), with a [in, R] and b [R, out].

    Raises:
      UserError: the method's parameters are layers of their own, which no ordinary model has.
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
    """What of the encoder stays as it is, as `OptimizerConfig.frozen` names it.

    Args:
      method: its settings.
      params: the parameters or their shapes.
    """
    if method.name == "full":
        return ()
    if method.name in _TRAINED:
        trained = _TRAINED[method.name]
        paths = flatten_dict({"encoder": params["encoder"]}, sep="/")
        return tuple(path for path in paths if not trained(path))
    return ("encoder",)


# Of the encoder's parameters. Houlsby et al., section 2.1: LayerNorms are trained too.
_TRAINED: dict[str, Callable[[str], bool]] = {
    "bitfit": lambda path: path.endswith("/bias"),
    "houlsby": lambda path: path.split("/")[-2].endswith("norm"),
}


def frozen_layers(number: int, blocks: Sequence[str]) -> tuple[str, ...]:
    """The embeddings and the lowest blocks, as `OptimizerConfig.frozen` names them.

    Args:
      number: of blocks; with 0 nothing is frozen, not even the embeddings.
      blocks: of the model, `Architecture.blocks`.
    """
    if number >= len(blocks):
        raise UserError(f"frozen_layers is {number}; the model has {len(blocks) - 1} blocks")
    return tuple(blocks[: number + 1]) if number else ()


def bottleneck(
    x: Float[Array, "*S H"],
    weights: Mapping[str, Any],
    activation: Callable[[jax.Array], jax.Array],
) -> Float[Array, "*S H"]:
    """What a small layer adds: activation(x down) up, with biases.

    Args:
      x: hidden states.
      weights: "down", with kernel [H, M] and bias [M], and "up", with kernel [M, H] and bias [H].
      activation: in between.

    Returns:
      In the dtype of x.
    """
    down, up = jax.tree.map(lambda array: array.astype(x.dtype), (weights["down"], weights["up"]))
    return activation(x @ down["kernel"] + down["bias"]) @ up["kernel"] + up["bias"]


def with_prefix(
    x: Float[Array, "B N D L"], prefix: Float[AnyArray, "H P"]
) -> Float[Array, "B N D P+L"]:
    """Keys or values after those of a prefix."""
    batch, heads, size, _ = x.shape
    prefix = prefix.astype(x.dtype).reshape(1, heads, size, -1)
    return jnp.concatenate([jnp.broadcast_to(prefix, (batch, *prefix.shape[1:])), x], axis=-1)
