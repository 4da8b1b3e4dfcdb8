"""The pre-training objectives by name."""

from collections.abc import Callable
from functools import partial

from bert_jax.models.config import BertConfig
from bert_jax.objectives.pretraining import PretrainingObjective

OBJECTIVES: dict[str, Callable[[BertConfig], PretrainingObjective]] = {
    "masked_lm": partial(PretrainingObjective, pairs=None),
    "next_sentence": partial(PretrainingObjective, pairs="next_sentence"),
    "sentence_order": partial(PretrainingObjective, pairs="sentence_order"),
}
