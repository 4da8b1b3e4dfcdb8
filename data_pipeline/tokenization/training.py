"""Training of tokenizers of either kind."""

from collections.abc import Sequence
from typing import Literal

from data_pipeline.errors import DataError
from data_pipeline.tokenization.interface import Tokenizer
from data_pipeline.tokenization.sentencepiece import train_sentencepiece
from data_pipeline.tokenization.wordpiece import train_wordpiece

_MINIMUM_VOCAB_SIZE = 100
_MAXIMUM_VOCAB_SIZE = 1 << 20  # the trainers allocate for the size asked for

Kind = Literal["wordpiece", "sentencepiece-unigram", "sentencepiece-bpe"]


def check_vocab_size(vocab_size: int) -> None:
    """Refuses a number of pieces that no vocabulary can be trained to have."""
    if not _MINIMUM_VOCAB_SIZE <= vocab_size <= _MAXIMUM_VOCAB_SIZE:
        raise DataError(
            f"--vocab-size {vocab_size:,} is out of range; give {_MINIMUM_VOCAB_SIZE} to "
            f"{_MAXIMUM_VOCAB_SIZE:,} (BERT has 30,522)"
        )


def train_tokenizer(
    texts: Sequence[str], kind: Kind, vocab_size: int, lowercase: bool
) -> Tokenizer:
    """Trains a tokenizer on cleaned sentences or paragraphs, with special pieces as ids 0 to 4.

    The same texts in the same order give the same tokenizer. Little text may give fewer pieces than
    `vocab_size`. `lowercase` lower-cases the text; WordPiece strips accents too.
    """
    check_vocab_size(vocab_size)
    if kind == "wordpiece":
        return train_wordpiece(texts, vocab_size, lowercase)
    return train_sentencepiece(texts, kind.removeprefix("sentencepiece-"), vocab_size, lowercase)
