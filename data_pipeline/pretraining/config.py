"""Options of how pre-training examples are made."""

import dataclasses
from typing import Literal, get_args

from data_pipeline.errors import DataError

Masking = Literal["token", "whole_word", "span"]
Pairs = Literal["next_sentence", "sentence_order", "full_sentences", "doc_sentences"]

# Segments of an example. Each ends with a [SEP]. At least as many documents are needed, since the
# random B of a pair comes from another one.
SEGMENTS: dict[Pairs, int] = {
    "next_sentence": 2,
    "sentence_order": 2,
    "full_sentences": 1,
    "doc_sentences": 1,
}


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """How pre-training examples are made from a corpus.

    Attributes:
      masked_lm_probability: share of a sequence's tokens to predict, at most as many as there are
        prediction slots.
      masking: what is masked together: "token" (BERT), "whole_word", or "span", several consecutive
        words (SpanBERT).
      mask_rate: share of the tokens to predict that are shown as [MASK].
      keep_rate: share that is shown unchanged; the rest are replaced by random pieces.
      pairs: "next_sentence" (BERT) and "sentence_order" (ALBERT) make pairs with an objective of
        that name; "full_sentences" (RoBERTa) joins sentences across documents; "doc_sentences"
        takes a single stretch of a document.
      short_sequence_probability: how often a pass over a document aims at a random shorter length,
        so that training sees short sequences too.
      packed: put several sequences into a row where they fit; the model still keeps them apart.
        Only for "doc_sentences", which end with their document: "full_sentences" continue into the
        next one and fill their rows anyway, and a row can hold only one pair, whose [CLS] predicts
        its label.
    """

    masked_lm_probability: float = 0.15
    masking: Masking = "token"
    mask_rate: float = 0.8
    keep_rate: float = 0.1
    pairs: Pairs = "next_sentence"
    short_sequence_probability: float = 0.1
    packed: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.masked_lm_probability <= 1:
            raise DataError(
                f"masked_lm_probability is {self.masked_lm_probability}; it must be above 0 and at "
                "most 1, usually 0.15"
            )
        for name, usual in (
            ("mask_rate", 0.8),
            ("keep_rate", 0.1),
            ("short_sequence_probability", 0.1),
        ):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise DataError(f"{name} is {value}; it must be between 0 and 1, usually {usual}")
        if self.mask_rate + self.keep_rate > 1:
            raise DataError(
                f"mask_rate {self.mask_rate} and keep_rate {self.keep_rate} add up to more than 1; "
                "lower one of them"
            )
        for name, kind in (("masking", Masking), ("pairs", Pairs)):
            value, known = getattr(self, name), get_args(kind)
            if value not in known:
                raise DataError(f"{name} is {value!r}; it must be one of {', '.join(known)}")
        if self.packed and self.pairs != "doc_sentences":
            raise DataError(
                f"packed is on, but pairs is {self.pairs!r}; only 'doc_sentences' are packed "
                "('full_sentences' fill their rows anyway)"
            )

    @property
    def rows(self) -> str:
        """What the rows of a batch are called where they are counted for the user."""
        return "rows" if self.packed else "sequences"

    @property
    def pair_objective(self) -> str | None:
        """The objective that predicts `next_sentence_labels`, None without pairs."""
        return self.pairs if SEGMENTS[self.pairs] == 2 else None

    @property
    def shortest_sequence(self) -> int:
        """The smallest sequence length: the special tokens and two more."""
        return special_tokens(self.pairs) + 2


def special_tokens(pairs: Pairs) -> int:
    """How many [CLS] and [SEP] an example has, not counting those between documents."""
    return 1 + SEGMENTS[pairs]
