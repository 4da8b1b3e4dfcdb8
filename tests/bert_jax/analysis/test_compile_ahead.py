"""Our count of a kernel's cycles; tests/tpu has the compiler's."""

import pytest

from bert_jax.analysis.compile_ahead import CHIPS, kernel_cycles
from bert_jax.analysis.hlo import Kernel


def kernel(name="attention_forward", flops=0, exponentials=0, accessed=0):
    return Kernel(f"jit(s)/{name}/pallas_call", "attention", 3, flops, exponentials, accessed)


def test_the_largest_of_three_counts():
    chip = CHIPS["v5e"]
    # 24 operations each of 1024 lanes, 4 of them a cycle, a third of the time.
    assert kernel_cycles(kernel(exponentials=1024 * 100), chip) == 1800
    # 4 units of 128 x 128 multiply-adds, half full, half of the time.
    assert kernel_cycles(kernel(flops=4 * 2 * 128**2 * 100), chip) == 400
    assert kernel_cycles(kernel(accessed=819_000), chip) == 1500
    every = kernel(flops=4 * 2 * 128**2 * 100, exponentials=1024 * 100, accessed=819_000)
    assert kernel_cycles(every, chip) == 1800


@pytest.mark.parametrize(("name", "cycles"), [("v4", 900), ("v5p", 900), ("v6e", 1800)])
def test_chips_with_two_cores_take_half(name, cycles):
    assert kernel_cycles(kernel(exponentials=1024 * 100), CHIPS[name]) == cycles


def test_a_foreign_kernel_is_not_counted():
    assert kernel_cycles(kernel("other"), CHIPS["v5e"]) is None
