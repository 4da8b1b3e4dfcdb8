"""From a text with [MASK] in it to the model's inputs."""

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.text.clean import clean_text
from data_pipeline.tokenization.interface import Tokenizer


def fill_mask_inputs(
    tokenizer: Tokenizer, text: str, max_length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs for filling the masks of a text: input ids, int32 [L], and mask positions, int32 [K].

    The ids include [CLS] and [SEP], and so does `max_length`, that of the model.
    """
    special = tokenizer.special_ids
    ids = [special["cls"], *tokenizer.encode(clean_text(text), allow_special=True), special["sep"]]
    if len(ids) > max_length:
        raise DataError(
            f"the text has {len(ids)} tokens with [CLS] and [SEP], but the model reads at most "
            f"{max_length}; shorten it"
        )
    input_ids = np.array(ids, np.int32)
    masked_positions = np.flatnonzero(input_ids == special["mask"]).astype(np.int32)
    if not len(masked_positions):
        raise DataError(f"there is no [MASK] in {text!r}; write [MASK] where a word is missing")
    return input_ids, masked_positions
