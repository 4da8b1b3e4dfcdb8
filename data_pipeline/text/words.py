"""Words in text written without spaces, found by a segmenter during preparation."""

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np

from data_pipeline.errors import DataError

Segmenter = Literal["jieba"]


def check_segmenter(name: str) -> None:
    """Refuses a segmenter that is unknown or not installed."""
    if name not in get_args(Segmenter):
        raise DataError(
            f"--word-segmenter {name} is unknown; give {', '.join(get_args(Segmenter))}"
        )
    if importlib.util.find_spec(name) is None:
        raise DataError(
            f"--word-segmenter {name} is not installed; type: pip install {name} (or the extra "
            "`chinese` of this project)"
        )


def load_segmenter(name: str) -> Callable[[str], list[str]]:
    """A function that cuts a sentence into its words, spaces and punctuation."""
    check_segmenter(name)
    with warnings.catch_warnings():
        # The library's own source causes them: escape sequences, pkg_resources.
        warnings.simplefilter("ignore")
        import jieba

    tokenizer = jieba.Tokenizer()
    # Its own `initialize` would use a cache file in the temporary folder that other programs and
    # versions share, so the words could depend on them.
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    segment: Callable[[str], list[str]] = tokenizer.lcut
    return segment


def mark_words(
    sentences: Sequence[str],
    segment: Callable[[str], list[str]],
    offsets: np.ndarray,
    lengths: np.ndarray,
) -> np.ndarray:
    """Which tokens start a word, bool [tokens].

    A token belongs to the word that has its first character, and a space to the word after it. The
    sentences neither begin nor end with a space. `offsets`, int64 [tokens], are from
    `Tokenizer.token_offsets`; `lengths`, int64 [sentences], are the tokens of each sentence.
    """
    parts = [part for sentence in sentences for part in segment(sentence)]
    sizes = np.fromiter(map(len, parts), np.int64, len(parts))
    is_word = np.fromiter((not part.isspace() for part in parts), bool, len(parts))
    word_of = np.repeat(np.cumsum(is_word) - is_word, sizes)  # of every character
    characters = np.fromiter(map(len, sentences), np.int64, len(sentences))
    first_character = np.cumsum(characters) - characters
    words = word_of[offsets + np.repeat(first_character, lengths)]
    return np.diff(words, prepend=-1) != 0
