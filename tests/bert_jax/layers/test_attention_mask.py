"""The mask as a value: what it allows, as a pytree, and after a prefix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.layers.attention_mask import PENALTY, AttentionMask, Rule

SEQUENCE = jnp.array([[1, 1, 2, 0]])


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        (Rule(), [[1, 1, 1, 0]]),
        (Rule(packed=True), [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]),
    ],
)
def test_penalties(rule, allowed):
    found = AttentionMask(SEQUENCE, rule).penalties()
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found[0, 0], np.where(allowed, 0.0, PENALTY))


def test_the_rule_is_static():
    """So that it passes through jit, rematerialisation and the backward pass."""
    mask = AttentionMask(SEQUENCE, Rule(packed=True))
    leaves, tree = jax.tree.flatten(mask)
    assert leaves == [SEQUENCE]
    assert jax.tree.unflatten(tree, leaves) == mask
    assert jax.jit(lambda mask: jnp.int32(mask.rule.packed))(mask) == 1


def test_all_attend_to_a_prefix():
    found = AttentionMask(SEQUENCE).after_prefix(2).penalties()
    np.testing.assert_array_equal(found[0, 0, 0], [0, 0, 0, 0, 0, PENALTY])
    with pytest.raises(ValueError, match="prefix"):
        AttentionMask(SEQUENCE, Rule(packed=True)).after_prefix(2)
