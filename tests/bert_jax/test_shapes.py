"""That the shapes in signatures are checked here, as `tests/conftest.py` means to."""

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError

from bert_jax.layers.layer_norm import layer_norm
from bert_jax.models.bert import Pooler
from bert_jax.objectives.losses import cross_entropy
from tests.bert_jax.conftest import TINY


def test_wrong_shapes_and_dtypes_are_refused():
    with pytest.raises(TypeCheckError, match="scale"):
        layer_norm(jnp.ones((2, 3)), jnp.ones(4), jnp.ones(3), 1e-6)
    with pytest.raises(TypeCheckError, match="labels"):
        cross_entropy(jnp.ones((2, 3)), jnp.ones(2), jnp.ones(2))
    with pytest.raises(TypeCheckError, match="hidden_states"):
        Pooler(TINY).init(jax.random.key(0), jnp.ones((2, 8)))
