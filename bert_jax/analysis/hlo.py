"""Cycles by part of the model, collectives and kernels, from the text of XLA's optimised HLO.

The TPU compiler notes an estimate of cycles on each instruction that it generates code for. Other
compilers do not, so their sums are 0.
"""

import math
import re
from collections import Counter, defaultdict
from typing import NamedTuple

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2}
_BYTES |= {"s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
# (text in the name of an operation, part of the model); the first that occurs counts.
PARTS = (
    ("optimizer", "optimizer"),
    ("dropout", "dropout"),
    ("_norm", "norms"),
    ("attention", "attention"),
    ("feed_forward", "feed-forward"),
    ("embeddings", "embeddings"),
    ("masked_lm", "heads and loss"),
    ("pooler", "heads and loss"),
    ("next_sentence", "heads and loss"),
    ("loss", "heads and loss"),
)


class Instruction(NamedTuple):
    """One line of a computation."""

    opcode: str  # such as "fusion" or "all-reduce-start"
    shape: str  # type of the result as text
    text: str  # the whole line


class Collective(NamedTuple):
    """All collectives of one kind that a step executes."""

    number: int
    size: int  # bytes of their results on one device
    largest: int  # bytes of the largest result


class Kernel(NamedTuple):
    """A custom kernel, which has no estimate of cycles, with the costs that its author declares."""

    operation: str  # its name in the program
    part: str  # of the model
    number: int  # how often it is executed
    flops: int  # of its matrix products, each time; 0 if none are declared
    exponentials: int  # each time
    accessed: int  # bytes that it reads and writes, each time


class Summary(NamedTuple):
    """What `summarize` finds in a program."""

    cycles: dict[str, int]  # the compiler's estimate by part of the model, without kernels
    collectives: dict[str, Collective]  # by kind
    kernels: list[Kernel]


def computations(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """The instructions of each computation in `compiled.as_text()`, and the name of the entry."""
    found: dict[str, list[Instruction]] = {}
    name = entry = ""
    for line in text.splitlines():
        if head := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            name = head[2]
            found[name] = []
            if head[1]:
                entry = name
        elif line.startswith("}"):
            name = ""
        elif name and (body := re.match(r"\s+(?:ROOT )?%?[\w.\-]+ = (.*)", line)):
            shape, rest = _split_shape(body[1])
            if opcode := re.match(r"([\w\-]+)\(", rest):
                found[name].append(Instruction(opcode[1], shape, line))
    return found, entry


def _trips(line: str, found: dict[str, list[Instruction]]) -> int:
    """How often a loop runs, 1 if that is unknown.

    The compiler notes it for some loops; for others the condition shows it, as jax's loops count
    from 0 up to a constant.
    """
    if known := re.search(r'known_trip_count":\{"n":"(\d+)"', line):
        return int(known[1])
    condition = re.search(r"condition=%?([\w.\-]+)", line)
    text = "".join(each.text for each in found.get(condition[1], ())) if condition else ""
    limits = re.findall(r"\bconstant\((\d+)\)", text)
    return int(limits[0]) if "direction=LT" in text and len(limits) == 1 else 1


def _split_shape(text: str) -> tuple[str, str]:
    """The type at the start of an instruction, which may be a tuple, and the rest."""
    depth = 0
    for index, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == " " and depth == 0:
            return text[:index], text[index + 1 :]
    return text, ""


def array_bytes(shape: str) -> list[int]:
    """Bytes of each array in a type.

    >>> array_bytes("(f32[2,3]{1,0:T(8,128)}, bf16[4]{0})")
    [24, 8]
    """
    return [
        _BYTES.get(dtype, 0) * math.prod(int(size) for size in sizes.split(",") if size)
        for dtype, sizes in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", shape)
    ]


def summarize(text: str) -> Summary:
    """Cycles, collectives and kernels in `compiled.as_text()`; loops count as often as they run."""
    found, entry = computations(text)
    cycles: Counter[str] = Counter()
    sizes: dict[str, list[int]] = defaultdict(list)
    kernels: list[Kernel] = []

    def count(instruction: Instruction, times: int) -> None:
        kind = instruction.opcode.removesuffix("-start")
        if kind not in COLLECTIVES:
            return
        arrays = array_bytes(instruction.shape)
        if instruction.opcode.endswith("-start") and kind != "all-reduce" and len(arrays) > 1:
            # The type of a start lists operands, results and, for a permute, two flags.
            arrays = [arrays[1]] if kind == "collective-permute" else arrays[len(arrays) // 2 :]
        sizes[kind] += [sum(arrays)] * times

    def visit(name: str, times: int) -> None:
        for instruction in found[name]:
            opcode, line = instruction.opcode, instruction.text
            if match := re.search(r'"estimated_cycles":"(\d+)"', line):
                cycles[_part(line)] += times * int(match[1])
            elif opcode == "custom-call" and "tpu_custom_call" in line:
                kernels.append(_kernel(line, times))
            if opcode == "while":
                if body := re.search(r"body=%?([\w.\-]+)", line):
                    visit(body[1], times * _trips(line, found))
            elif opcode in ("call", "conditional", "async-start"):
                for called in _called(line):
                    visit(called, times)
            elif opcode == "fusion":  # the TPU compiler fuses collectives with what is around them
                for called in _called(line):
                    if called.startswith("all-reduce-scatter"):
                        sizes["reduce-scatter"] += [sum(array_bytes(instruction.shape))] * times
                        continue
                    for inner in found.get(called, ()):
                        count(inner, times)
            count(instruction, times)

    visit(entry, 1)
    collectives = {
        kind: Collective(len(each), sum(each), max(each)) for kind, each in sorted(sizes.items())
    }
    return Summary(dict(cycles), collectives, kernels)


def _called(line: str) -> list[str]:
    """The computations that an instruction names, including branches."""
    named = re.search(r"(?:to_apply|calls|branch_computations)=(?:\{([^}]*)\}|(%?[\w.\-]+))", line)
    return re.findall(r"%?([\w.\-]+)", named[1] or named[2]) if named else []


def _kernel(line: str, times: int) -> Kernel:
    # Of `pallas.CostEstimate`.
    names = ("flops", "transcendentals", "bytes_accessed")
    said = [re.search(rf'"{name}":"?(\d+)', line) for name in names]
    costs = [int(match[1]) if match else 0 for match in said]
    return Kernel(_operation(line), _part(line), times, *costs)


def _operation(line: str) -> str:
    match = re.search(r'op_name="([^"]*)"', line)
    return match[1] if match else ""


def _part(line: str) -> str:
    operation = _operation(line).lower()
    return next((part for word, part in PARTS if word in operation), "other")
