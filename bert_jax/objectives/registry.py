"""The pre-training objectives by name."""

from collections.abc import Callable
from functools import partial

from bert_jax.models.architecture import EncoderConfig
from bert_jax.objectives.pretraining import PretrainingObjective

OBJECTIVES: dict[str, Callable[[EncoderConfig], PretrainingObjective]] = {
    "masked_lm": partial(PretrainingObjective, pairs=None),
    "next_sentence": partial(PretrainingObjective, pairs="next_sentence"),
    "sentence_order": partial(PretrainingObjective, pairs="sentence_order"),
}
