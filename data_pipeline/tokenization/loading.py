"""Tokenizers: WordPiece and SentencePiece behind one interface, loaded and trained.

A saved tokenizer is two files in any folder (a corpus, a checkpoint): `tokenizer_config.json` and
`vocab.txt` or `sentencepiece.model`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from data_pipeline.errors import DataError
from data_pipeline.files import read_json
from data_pipeline.tokenization.interface import CONFIG_FILE, SPECIAL_PIECES, Tokenizer
from data_pipeline.tokenization.sentencepiece import SentencePiece, load_model, train_sentencepiece
from data_pipeline.tokenization.wordpiece import WordPiece, load_vocab, train_wordpiece

__all__ = [
    "CONFIG_FILE",
    "MAXIMUM_VOCAB_SIZE",
    "MINIMUM_VOCAB_SIZE",
    "SPECIAL_PIECES",
    "Kind",
    "SentencePiece",
    "Tokenizer",
    "WordPiece",
    "load_model",
    "load_tokenizer",
    "load_vocab",
    "train_tokenizer",
]

MINIMUM_VOCAB_SIZE = 100
MAXIMUM_VOCAB_SIZE = 1 << 20  # of a trained one: the trainers allocate for the size asked for

Kind = Literal["wordpiece", "sentencepiece-unigram", "sentencepiece-bpe"]


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Loads the tokenizer that a folder (a corpus, a checkpoint) holds."""
    path = Path(folder) / CONFIG_FILE
    if not path.is_file():
        raise DataError(
            f"{folder} holds no tokenizer ({CONFIG_FILE} is missing); give the folder of a corpus "
            "or of a checkpoint"
        )
    config = read_json(path)
    try:
        kind, lowercase = config["kind"], config["lowercase"]
        fingerprint = config["fingerprint"]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not a tokenizer description ({error!r})") from None
    tokenizer = (
        load_vocab(Path(folder) / "vocab.txt", lowercase)
        if kind == "wordpiece"
        else load_model(Path(folder) / "sentencepiece.model", lowercase)
    )
    if tokenizer.description["fingerprint"] != fingerprint:
        raise DataError(
            f"the vocabulary in {folder} is not the one it was saved with (its SHA-256 differs "
            f"from the one in {CONFIG_FILE}); copy the folder again"
        )
    return tokenizer


def train_tokenizer(
    texts: Sequence[str], kind: Kind, vocab_size: int, lowercase: bool
) -> Tokenizer:
    """Trains a tokenizer; the same texts in the same order give the same tokenizer.

    Args:
      texts: cleaned sentences or paragraphs.
      kind: "wordpiece", "sentencepiece-unigram" or "sentencepiece-bpe".
      vocab_size: the number of pieces asked for; little text may give fewer.
      lowercase: whether to lower-case the text (WordPiece strips accents too).

    Returns:
      A tokenizer with [PAD] [UNK] [CLS] [SEP] [MASK] as its ids 0 to 4.

    Raises:
      DataError: the vocabulary size is out of range or cannot hold the characters of the text.
    """
    if not MINIMUM_VOCAB_SIZE <= vocab_size <= MAXIMUM_VOCAB_SIZE:
        raise DataError(
            f"a vocabulary of {vocab_size:,} pieces cannot be trained; ask for "
            f"{MINIMUM_VOCAB_SIZE} to {MAXIMUM_VOCAB_SIZE:,} (BERT has 30,522)"
        )
    if kind == "wordpiece":
        return train_wordpiece(texts, vocab_size, lowercase)
    return train_sentencepiece(texts, kind.removeprefix("sentencepiece-"), vocab_size, lowercase)
