"""Which keys a query attends to, as one value for both `attention.py` and its kernel."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

# The original's penalty: finite, so that a row without any key stays defined.
PENALTY = -10_000.0


class Tokens(NamedTuple):
    """What decides who attends to whom: integer arrays that broadcast together."""

    sequence: jax.Array  # the number of the sequence that a token belongs to, 0 for padding
    position: jax.Array  # its place in the row


@dataclasses.dataclass(frozen=True)
class Rule:
    """Who attends to whom; another kind of mask needs a field here and a condition in `allows`.

    Attributes:
      packed: tokens attend to their own sequence only; otherwise to everything but padding.
    """

    packed: bool = False

    @property
    def depends_on_query(self) -> bool:
        """Whether the queries of a row may attend to different keys."""
        return self.packed

    def allows(self, queries: Tokens, keys: Tokens) -> jax.Array:
        """bool, broadcast: whether queries attend to keys."""
        if self.packed:
            # Padding attends to nothing. There are fewer queries than pairs to apply this to.
            return keys.sequence == jnp.where(queries.sequence > 0, queries.sequence, -1)
        return keys.sequence > 0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AttentionMask:
    """A rule and what it is applied to; a pytree of `sequence`, whose rule is static."""

    sequence: jax.Array  # int [B, L], the number of each key's sequence, 0 for padding
    rule: Rule = dataclasses.field(default=Rule(), metadata={"static": True})

    def penalties(self) -> jax.Array:
        """What to add to the scores: float32 [B, 1, L, L], or [B, 1, 1, L] where all queries see
        the same keys.
        """
        position = jnp.arange(self.sequence.shape[1])
        queries = Tokens(self.sequence[:, None, :, None], position[:, None])
        keys = Tokens(self.sequence[:, None, None, :], position)
        return jnp.where(self.rule.allows(queries, keys), 0.0, PENALTY)

    def after_prefix(self, length: int) -> "AttentionMask":
        """The mask with `length` more keys in front, to which every query attends.

        Raises:
          ValueError: the rule depends on the query.
        """
        if self.rule.depends_on_query:
            raise ValueError("a prefix needs rows in which all queries attend to the same keys")
        sequence = jnp.pad(self.sequence, ((0, 0), (length, 0)), constant_values=1)
        return dataclasses.replace(self, sequence=sequence)
