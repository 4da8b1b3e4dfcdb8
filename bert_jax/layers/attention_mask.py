"""Which keys a query attends to, as one value that `attention.py` and its kernel are handed."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

# The original's penalty: finite, so that a row without any key stays defined.
PENALTY = -10_000.0


class Tokens(NamedTuple):
    """What decides who attends to whom; arrays of any shapes that fit each other.

    Attributes:
      sequence: int, the number of the sequence that a token belongs to, 0 for padding.
      position: int, its place in the row.
    """

    sequence: jax.Array
    position: jax.Array


@dataclasses.dataclass(frozen=True)
class Rule:
    """Who attends to whom. Another kind of mask is one more field here and its condition below.

    Attributes:
      packed: a token attends to those of its own sequence; otherwise to all but padding.
    """

    packed: bool = False

    @property
    def depends_on_query(self) -> bool:
        """Whether the queries of a row may attend to different keys."""
        return self.packed

    def allows(self, queries: Tokens, keys: Tokens) -> jax.Array:
        """bool, broadcast: whether queries attend to keys."""
        if self.packed:
            # Padding attends to nothing. Said of the queries, which are fewer than pairs.
            return keys.sequence == jnp.where(queries.sequence > 0, queries.sequence, -1)
        return keys.sequence > 0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AttentionMask:
    """The rule and what it is applied to. A pytree of `sequence`; the rule is static.

    Attributes:
      sequence: int [B, L], the number of the sequence that a key belongs to, 0 for padding.
      rule: which of them a query attends to.
    """

    sequence: jax.Array
    rule: Rule = dataclasses.field(default=Rule(), metadata={"static": True})

    def penalties(self) -> jax.Array:
        """float32 [B, 1, Q or 1, L], to be added to the scores of queries and keys."""
        position = jnp.arange(self.sequence.shape[1])
        queries = Tokens(self.sequence[:, None, :, None], position[:, None])
        keys = Tokens(self.sequence[:, None, None, :], position)
        return jnp.where(self.rule.allows(queries, keys), 0.0, PENALTY)

    def after_prefix(self, length: int) -> "AttentionMask":
        """The mask [B, P + L] where `length` keys that all attend to come first.

        Raises:
          ValueError: the rule depends on the query.
        """
        if self.rule.depends_on_query:
            raise ValueError("a prefix is for rows in which all attend to the same keys")
        sequence = jnp.pad(self.sequence, ((0, 0), (length, 0)), constant_values=1)
        return dataclasses.replace(self, sequence=sequence)
