"""The attention of `attention.py` as a kernel for TPUs, with nothing of size L x L in HBM.

Legend of shapes: B batch, N heads, D head size, L sequence length, W queries worked on at a time.
Inside the kernel keys are the rows and queries the columns of what has size L x L: sums over keys
then add registers to each other, and only [D, L] is ever transposed.

The keys of a head fit into the core's memory, so the softmax needs one pass. Kept for the backward
pass are queries, keys, values, context and one number of each query; it computes the probabilities
again. Dropout's bits are those of `dropout.random_bits`. See docs/decisions/step-speed.md.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import AbstractMesh, PartitionSpec

from bert_jax.layers.attention_mask import PENALTY, AttentionMask, Rule, Tokens
from bert_jax.layers.dropout import hash_elements, hash_rows, keep, key_words, spread_columns
from bert_jax.parallel.sharding import LOGICAL_AXES

WIDTH = 128  # lanes of a TPU's registers
LONGEST = 1024
# Bytes of one [heads, D, L] that a step of the grid has in the core's memory. The backward pass has
# seven, and the next step's seven on their way; with the scores of a chunk these stay under 16 MiB.
BLOCK = 512 * 1024
CHUNKS = 4  # independent chunks of queries in a loop's body, for the compiler to interleave

# Operations of the vector unit for each element of an L x L matrix in the compiler's schedule of
# this file, with dropout and packing; 11 are those of dropout.
VECTOR_OPERATIONS = {"attention_forward": 24, "attention_backward": 28}


def fits(query: jax.Array, mesh: AbstractMesh) -> bool:
    """Whether `attention` takes these arrays on the mesh in use: a TPU's, and sizes that it tiles.

    Args:
      query: [B, N, D, L], L at most `LONGEST`.
      mesh: `jax.sharding.get_abstract_mesh()`, empty perhaps.
    """
    if mesh.empty or mesh.abstract_device is None or mesh.abstract_device.platform != "tpu":
        return False
    batch, heads, size, length = query.shape
    return (
        length % WIDTH == 0
        and length <= LONGEST
        and size % 16 == 0
        and size * length * query.dtype.itemsize <= BLOCK
        and batch % _devices(mesh, "batch") == 0
        and heads % _devices(mesh, "heads") == 0
    )


def _mesh_axes(axis: str) -> tuple[str, ...]:
    axes = LOGICAL_AXES[axis]
    return (axes,) if isinstance(axes, str) else axes or ()


def _devices(mesh: AbstractMesh, axis: str) -> int:
    """Number of parts that a logical axis is split in."""
    parts = 1
    for name in _mesh_axes(axis):
        parts *= mesh.shape[name]
    return parts


def forward(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: AttentionMask,
    dropout_key: jax.Array | None,
    dropout_rate: float,
    interpret: bool = False,
) -> tuple[jax.Array, Any]:
    """As in `attention.Passes`, on the mesh in use, where `fits` says so.

    Args:
      interpret: computes on any platform what the kernel would, slowly; for tests.
    """
    run = _on_mesh(_forward_kernel, "attention_forward", 2, dropout_key, dropout_rate, mask)
    context, log_sum = run(query, key, value, interpret=interpret)
    return context, (query, key, value, mask, dropout_key, context, log_sum)


def backward(
    saved: Any, gradient: jax.Array, dropout_rate: float, interpret: bool = False
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """As in `attention.Passes`; `interpret` as in `forward`."""
    query, key, value, mask, dropout_key, context, log_sum = saved
    run = _on_mesh(_backward_kernel, "attention_backward", 5, dropout_key, dropout_rate, mask)
    dquery, dkey, dvalue = run(query, key, value, context, log_sum, gradient, interpret=interpret)
    return dquery, dkey, dvalue


def _on_mesh(
    kernel: Callable[..., None],
    name: str,
    products: int,
    dropout_key: jax.Array | None,
    dropout_rate: float,
    mask: AttentionMask,
) -> Callable[..., Any]:
    """The kernel on each device's share of sequences and heads: (query, ...) -> results.

    Args:
      kernel: writes one result of query's shape or more.
      name: of the kernel.
      products: matrix products of 2 L L D operations for each head.
      dropout_key, dropout_rate, mask: as in `forward`.
    """
    mesh = jax.sharding.get_abstract_mesh()
    rate = dropout_rate if dropout_key is not None else 0.0
    words = key_words(dropout_key) if dropout_key is not None else jnp.zeros(2, jnp.uint32)

    def of_device(
        words: jax.Array, sequence: jax.Array, *arrays: jax.Array, interpret: bool
    ) -> list[jax.Array]:
        query = arrays[0]
        batch, heads = query.shape[:2]
        # The first sequence and head of this device.
        first = [jnp.int32(0), jnp.int32(0)]
        if not mesh.empty:
            first = [
                jax.lax.axis_index(_mesh_axes("batch")) * batch,
                jax.lax.axis_index(_mesh_axes("heads")) * heads,
            ]
        place = jnp.concatenate([words.astype(jnp.int32), jnp.stack(first)])
        return _call(
            kernel,
            name,
            (place, sequence[:, None], *arrays),
            products=products,
            all_heads=heads * (1 if mesh.empty else _devices(mesh, "heads")),
            rate=rate,
            rule=mask.rule,
            interpret=interpret,
        )

    def run(*arrays: jax.Array, interpret: bool) -> Any:
        local = partial(of_device, interpret=interpret)
        if mesh.empty:
            return local(words, mask.sequence, *arrays)
        batch, heads = LOGICAL_AXES["batch"], LOGICAL_AXES["heads"]
        spec = PartitionSpec(batch, heads)
        return jax.shard_map(
            local,
            in_specs=(PartitionSpec(), PartitionSpec(batch), *[spec] * len(arrays)),
            out_specs=spec,
            check_vma=False,  # a kernel does not say how its results vary over the mesh
        )(words, mask.sequence, *arrays)

    return run


def _call(
    kernel: Callable[..., None],
    name: str,
    inputs: tuple[jax.Array, ...],
    *,
    products: int,
    all_heads: int,
    rate: float,
    rule: Rule,
    interpret: bool,
) -> list[jax.Array]:
    """The kernel over a grid of sequences and groups of heads.

    Args:
      inputs: int32 [4], the words of the key and the first sequence and head; int32 [B, 1, L], the
        sequence of each token; query and others [B, N, D or 1, L].
    """
    query = inputs[2]
    batch, heads, size, length = query.shape
    width = WIDTH if length % WIDTH == 0 else length
    group = _largest_divisor(heads, BLOCK // (size * length * query.dtype.itemsize))
    outputs = [jax.ShapeDtypeStruct(query.shape, query.dtype)] * 3
    if name == "attention_forward":
        outputs[1:] = [jax.ShapeDtypeStruct((batch, heads, 1, length), jnp.float32)]

    def spec(x: Any) -> pl.BlockSpec:
        return pl.BlockSpec((1, group, *x.shape[2:]), lambda b, h: (b, h, 0, 0))

    found: list[jax.Array] = pl.pallas_call(
        partial(
            kernel,
            all_heads=all_heads,
            rate=rate,
            rule=rule,
            unroll=_largest_divisor(group, CHUNKS * width // length),
        ),
        grid=(batch, heads // group),
        in_specs=[
            pl.BlockSpec(memory_space=pltpu.SMEM),
            pl.BlockSpec((1, 1, length), lambda b, h: (b, 0, 0)),
            *map(spec, inputs[2:]),
        ],
        out_specs=[*map(spec, outputs)],
        out_shape=outputs,
        scratch_shapes=[
            pltpu.VMEM((length, width), jnp.int32 if rule.depends_on_query else jnp.float32),
            pltpu.VMEM((length, width), jnp.uint32),
        ],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel")),
        cost_estimate=pl.CostEstimate(
            flops=products * 2 * query.size * length,
            transcendentals=batch * heads * length * length,
            bytes_accessed=sum(map(_bytes, inputs)) + sum(map(_bytes, outputs)),
        ),
        name=name,
        interpret=interpret,
    )(*inputs)
    return found


def _bytes(x: jax.Array | jax.ShapeDtypeStruct) -> int:
    return x.size * x.dtype.itemsize


def _largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` that is at most `limit`, or 1.

    >>> _largest_divisor(12, 5)
    4
    """
    return max((n for n in range(1, limit + 1) if number % n == 0), default=1)


def _forward_kernel(
    place: Any,
    sequence: Any,
    query: Any,
    key: Any,
    value: Any,
    context: Any,
    log_sum: Any,
    of_keys: Any,
    columns: Any,
    *,
    all_heads: int,
    rate: float,
    rule: Rule,
    unroll: int,
) -> None:
    """Writes context [1, n, D, L] and, float32 [1, n, 1, L], the logarithms of the softmax's sums.

    The latter are those of the exponentials times 1 - rate, so that the exponential of a score
    less this number is its probability over 1 - rate.
    """
    _, heads, size, length = query.shape
    _prepare(sequence, of_keys, columns, rule)
    first_row = _first_row(place, heads, all_heads, length)

    def one_head(head: Any, _: None) -> None:
        for first in range(0, length, columns.shape[1]):
            chunk = pl.ds(first, columns.shape[1])
            scaled = query[0, head, :, chunk] * size**-0.5
            queries = _tokens(sequence[0, :, chunk], 1, first)
            scores = _scores(key[0, head], scaled, queries, of_keys, rule)
            largest = jnp.max(scores, axis=0, keepdims=True)  # (1, W)
            weights = jnp.exp(scores - largest)
            total = jnp.sum(weights, axis=0, keepdims=True) * (1 - rate)
            if rate:
                kept = _kept(place, columns, first_row + head * length + first, rate)
                weights = jnp.where(kept, weights, 0.0)
            found = _product(value[0, head], weights.astype(value.dtype), 1, 0)  # (D, W)
            context[0, head, :, chunk] = (found / total).astype(context.dtype)
            log_sum[0, head, :, chunk] = largest + jnp.log(total)

    jax.lax.fori_loop(0, heads, one_head, None, unroll=unroll)


def _backward_kernel(
    place: Any,
    sequence: Any,
    query: Any,
    key: Any,
    value: Any,
    context: Any,
    log_sum: Any,
    gradient: Any,
    dquery: Any,
    dkey: Any,
    dvalue: Any,
    of_keys: Any,
    columns: Any,
    *,
    all_heads: int,
    rate: float,
    rule: Rule,
    unroll: int,
) -> None:
    """Writes the gradients [1, n, D, L] of query, key and value, given that of the context."""
    _, heads, size, length = query.shape
    dtype = query.dtype
    _prepare(sequence, of_keys, columns, rule)
    first_row = _first_row(place, heads, all_heads, length)

    def one_head(head: Any, _: None) -> None:
        dkey_sum = dvalue_sum = jnp.zeros((size, length), jnp.float32)
        for first in range(0, length, columns.shape[1]):
            chunk = pl.ds(first, columns.shape[1])
            scaled = query[0, head, :, chunk] * size**-0.5
            dcontext = gradient[0, head, :, chunk]
            queries = _tokens(sequence[0, :, chunk], 1, first)
            scores = _scores(key[0, head], scaled, queries, of_keys, rule)
            # Probabilities over 1 - rate, before dropout and after it.
            probabilities = dropped = jnp.exp(scores - log_sum[0, head, :, chunk])
            dprobabilities = _product(value[0, head], dcontext, 0, 0)  # (L, W)
            if rate:
                kept = _kept(place, columns, first_row + head * length + first, rate)
                dropped = jnp.where(kept, dropped, 0.0)
                dprobabilities = jnp.where(kept, dprobabilities, 0.0)
            # As in `attention.py`, and by 1 - rate smaller as `dprobabilities` is.
            products = dcontext.astype(jnp.float32) * context[0, head, :, chunk].astype(jnp.float32)
            sums = jnp.sum(products, axis=0, keepdims=True) * (1 - rate)  # (1, W)
            dscores = (probabilities * (dprobabilities - sums)).astype(dtype)
            dscaled = _product(key[0, head], dscores, 1, 0)
            dquery[0, head, :, chunk] = (dscaled * size**-0.5).astype(dtype)
            dkey_sum += _product(scaled, dscores, 1, 1)
            dvalue_sum += _product(dcontext, dropped.astype(dtype), 1, 1)
        dkey[0, head] = dkey_sum.astype(dtype)
        dvalue[0, head] = dvalue_sum.astype(dtype)

    jax.lax.fori_loop(0, heads, one_head, None, unroll=unroll)


def _prepare(sequence: Any, of_keys: Any, columns: Any, rule: Rule) -> None:
    """Writes what all heads of a sequence share.

    Args:
      sequence: int32 [1, 1, L].
      of_keys: [L, W], for each key its sequence or, if all queries have the same keys, its penalty.
      columns: uint32 [L, W], the share of the keys' positions in the bits of dropout.
    """
    length, width = of_keys.shape
    number = jnp.broadcast_to(sequence[0], (width, length)).T
    if rule.depends_on_query:
        of_keys[...] = number
    else:
        keys = _tokens(number, 0)
        of_keys[...] = jnp.where(rule.allows(keys, keys), 0.0, PENALTY)  # whatever the query
    columns[...] = spread_columns(jax.lax.broadcasted_iota(jnp.uint32, columns.shape, 0))


def _scores(key: Any, scaled: Any, queries: Tokens, of_keys: Any, rule: Rule) -> Any:
    """float32 [L, W], of all keys [D, L] and some queries [D, W]."""
    scores = _product(key, scaled, 0, 0)
    if not rule.depends_on_query:
        return scores + of_keys[...]
    allowed = rule.allows(queries, _tokens(of_keys[...], 0))
    return jnp.where(allowed, scores, scores + PENALTY)


def _tokens(sequence: Any, axis: int, first: int = 0) -> Tokens:
    """The tokens from number `first` on, along an axis of `sequence`."""
    return Tokens(sequence, first + jax.lax.broadcasted_iota(jnp.int32, sequence.shape, axis))


def _first_row(place: Any, heads: int, all_heads: int, length: int) -> Any:
    """int32, the number of this step's first row of the probabilities [B, N, L, L] of all devices.

    Beyond 2**31 it wraps around, as the uint32 of `dropout.random_bits` does beyond 2**32.
    """
    sequence = place[2] + pl.program_id(0)
    return (sequence * all_heads + place[3] + pl.program_id(1) * heads) * length


def _kept(place: Any, columns: Any, row: Any, rate: float) -> Any:
    """bool [L, W]: what `dropout` keeps of the probabilities of W queries from number `row` on."""
    width = columns.shape[1]
    rows = (row + jax.lax.broadcasted_iota(jnp.int32, (1, width), 1)).astype(jnp.uint32)
    words = [jnp.full((1, width), place[index], jnp.int32).astype(jnp.uint32) for index in (0, 1)]
    return keep(hash_elements(hash_rows(rows, words), columns[...]), rate)


def _product(a: Any, b: Any, axis: int, other: int) -> Any:
    """Sums a's products with b over an axis of each; both have two, the result is float32."""
    contracted = (((axis,), (other,)), ((), ()))
    return jax.lax.dot_general(a, b, contracted, preferred_element_type=jnp.float32)
