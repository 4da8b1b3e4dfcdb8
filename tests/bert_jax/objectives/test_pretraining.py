"""Filling masks with whatever parts a converted model has."""

import numpy as np
import pytest

from bert_jax.errors import UserError
from bert_jax.objectives.pretraining import fill_mask
from tests.checkpoints import TINY, random_params


def test_fill_mask_needs_the_encoder_and_the_masked_lm_head_alone():
    params = random_params()
    ids, positions = np.array([2, 5, 4, 3], np.int32), np.array([2], np.int32)
    whole = fill_mask(TINY, params, ids, positions)
    for absent in (["next_sentence_head"], ["next_sentence_head", "pooler"]):
        parts = {part: tree for part, tree in params.items() if part not in absent}
        for found, expected in zip(fill_mask(TINY, parts, ids, positions), whole, strict=True):
            np.testing.assert_array_equal(found, expected)
    with pytest.raises(UserError, match="no masked-LM head"):
        fill_mask(TINY, {"encoder": params["encoder"]}, ids, positions)
