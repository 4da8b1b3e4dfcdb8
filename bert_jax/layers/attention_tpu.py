"""The attention of `attention.py` as a kernel for TPUs, with nothing of size L x L in HBM.

Legend of shapes: B batch, N heads, D head size, L sequence length, W queries processed at a time.
Inside the kernel, matrices of size L x L have keys as rows and queries as columns: sums over keys
then add registers to each other, and only [D, L] is ever transposed.

The keys of a head fit into the core's memory, so the softmax needs one pass. The backward pass gets
queries, keys, values, context and one number for each query, and recomputes the probabilities.
Dropout's bits are those of `dropout.random_bits`. See docs/decisions/step-speed.md.
"""

import math
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
from bert_jax.parallel.sharding import LOGICAL_AXES, mesh_axes

WIDTH = 128  # lanes of a TPU's registers
LONGEST = 1024
# Bytes of each [heads, D, L] array that a step of the grid keeps in the core's memory. The backward
# pass has seven, and prefetches the next step's seven; with a chunk's scores that is under 16 MiB.
BLOCK = 512 * 1024
CHUNKS = 4  # independent chunks of queries in a loop's body, for the compiler to interleave
# The vector unit's operations for each element of an L x L matrix in the compiler's schedule of
# this file, with dropout (11 of them) and packing.
VECTOR_OPERATIONS = {"attention_forward": 24, "attention_backward": 28}


def fits(query: jax.Array, mesh: AbstractMesh) -> bool:
    """Whether the kernel takes queries [B, N, D, L] on the mesh in use.

    It needs TPUs, sizes that fill its tiles, and a length of at most `LONGEST`. The mesh is that of
    `jax.sharding.get_abstract_mesh()` and may be empty.
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


def _devices(mesh: AbstractMesh, axis: str) -> int:
    """Number of parts that a logical axis is split into."""
    return math.prod(mesh.shape[name] for name in mesh_axes(axis))


def forward(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: AttentionMask,
    dropout_key: jax.Array | None,
    dropout_rate: float,
    interpret: bool = False,
) -> tuple[jax.Array, Any]:
    """The forward pass of `attention.Passes`, on the mesh in use; requires that `fits` holds.

    `interpret`, for tests, computes what the kernel would on any platform, but slowly.
    """
    run = _on_mesh(_forward_kernel, mask, dropout_key, dropout_rate, interpret)
    context, log_sum = run(query, key, value)
    return context, (query, key, value, mask, dropout_key, context, log_sum)


def backward(
    saved: Any, gradient: jax.Array, dropout_rate: float, interpret: bool = False
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The backward pass of `attention.Passes`; `interpret` as in `forward`."""
    query, key, value, mask, dropout_key, context, log_sum = saved
    run = _on_mesh(_backward_kernel, mask, dropout_key, dropout_rate, interpret)
    dquery, dkey, dvalue = run(query, key, value, context, log_sum, gradient)
    return dquery, dkey, dvalue


def _on_mesh(
    kernel: Callable[..., None],
    mask: AttentionMask,
    dropout_key: jax.Array | None,
    dropout_rate: float,
    interpret: bool,
) -> Callable[..., Any]:
    """The kernel on each device's share of sequences and heads: (query, ...) -> results."""
    mesh = jax.sharding.get_abstract_mesh()
    rate = dropout_rate if dropout_key is not None else 0.0
    words = key_words(dropout_key) if dropout_key is not None else jnp.zeros(2, jnp.uint32)
    on_device = partial(
        _on_device, kernel, mesh=mesh, rate=rate, rule=mask.rule, interpret=interpret
    )

    def run(*arrays: jax.Array) -> Any:
        if mesh.empty:
            return on_device(words, mask.sequence, *arrays)
        batch, heads = LOGICAL_AXES["batch"], LOGICAL_AXES["heads"]
        spec = PartitionSpec(batch, heads)
        return jax.shard_map(
            on_device,
            in_specs=(PartitionSpec(), PartitionSpec(batch), *[spec] * len(arrays)),
            out_specs=spec,
            check_vma=False,  # a kernel does not say how its results vary over the mesh
        )(words, mask.sequence, *arrays)

    return run


def _on_device(
    kernel: Callable[..., None],
    words: jax.Array,
    sequence: jax.Array,
    *arrays: jax.Array,
    mesh: AbstractMesh,
    rate: float,
    rule: Rule,
    interpret: bool,
) -> list[jax.Array]:
    """The kernel over a grid of sequences and groups of heads.

    Args:
      words: uint32 [2], of the dropout key.
      sequence: int32 [B, L], the sequence that each token belongs to.
      arrays: query and others, each [B, N, D or 1, L].
    """
    query = arrays[0]
    batch, heads, size, length = query.shape
    all_heads = heads
    first = [jnp.int32(0), jnp.int32(0)]  # the first sequence and head of this device
    if not mesh.empty:
        all_heads *= _devices(mesh, "heads")
        first = [
            jax.lax.axis_index(mesh_axes("batch")) * batch,
            jax.lax.axis_index(mesh_axes("heads")) * heads,
        ]
    place = jnp.concatenate([words.astype(jnp.int32), jnp.stack(first)])
    inputs = (place, sequence[:, None], *arrays)
    width = WIDTH if length % WIDTH == 0 else length
    group = _largest_divisor(heads, BLOCK // (size * length * query.dtype.itemsize))
    outputs = [jax.ShapeDtypeStruct(query.shape, query.dtype)] * 3
    name, products = "attention_backward", 5  # matrix products of 2 L L D operations for each head
    if kernel is _forward_kernel:
        name, products = "attention_forward", 2
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
            *map(spec, arrays),
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


def _forward_kernel(*refs: Any, all_heads: int, rate: float, rule: Rule, unroll: int) -> None:
    """Writes context [1, n, D, L] and, float32 [1, n, 1, L], the logarithms of the softmax's sums.

    These sums are of the exponentials times 1 - rate, so that exp(score - logarithm) is the
    probability over 1 - rate.
    """
    place, sequence, query, key, value, context, log_sum, of_keys, columns = refs
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


def _backward_kernel(*refs: Any, all_heads: int, rate: float, rule: Rule, unroll: int) -> None:
    """Writes the gradients [1, n, D, L] of query, key and value, given that of the context."""
    place, sequence, query, key, value, context, log_sum, gradient, *results = refs
    dquery, dkey, dvalue, of_keys, columns = results
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
            # Probabilities divided by 1 - rate, before and after dropout.
            probabilities = dropped = jnp.exp(scores - log_sum[0, head, :, chunk])
            dprobabilities = _product(value[0, head], dcontext, 0, 0)  # (L, W)
            if rate:
                kept = _kept(place, columns, first_row + head * length + first, rate)
                dropped = jnp.where(kept, dropped, 0.0)
                dprobabilities = jnp.where(kept, dprobabilities, 0.0)
            # As in `attention.py`, but times 1 - rate, as `dprobabilities` is.
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
      of_keys: [L, W], each key's sequence, or its penalty if that is the same for all queries.
      columns: uint32 [L, W], what the keys' positions contribute to the bits of dropout.
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
    """The tokens from position `first` on, along an axis of `sequence`."""
    return Tokens(sequence, first + jax.lax.broadcasted_iota(jnp.int32, sequence.shape, axis))


def _first_row(place: Any, heads: int, all_heads: int, length: int) -> Any:
    """int32, the number of this step's first row of the probabilities [B, N, L, L] of all devices.

    It wraps around beyond 2**31, as the uint32 of `dropout.random_bits` does beyond 2**32.
    """
    sequence = place[2] + pl.program_id(0)
    return (sequence * all_heads + place[3] + pl.program_id(1) * heads) * length


def _kept(place: Any, columns: Any, row: Any, rate: float) -> Any:
    """bool [L, W]: which probabilities of W queries, from row number `row` on, dropout keeps."""
    width = columns.shape[1]
    rows = (row + jax.lax.broadcasted_iota(jnp.int32, (1, width), 1)).astype(jnp.uint32)
    words = [jnp.full((1, width), place[index], jnp.int32).astype(jnp.uint32) for index in (0, 1)]
    return keep(hash_elements(hash_rows(rows, words), columns[...]), rate)


def _product(a: Any, b: Any, axis: int, other: int) -> Any:
    """float32, the product of two matrices, summed over `axis` of a and `other` of b."""
    contracted = (((axis,), (other,)), ((), ()))
    return jax.lax.dot_general(a, b, contracted, preferred_element_type=jnp.float32)
