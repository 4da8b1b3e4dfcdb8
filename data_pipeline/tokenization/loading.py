"""Saved tokenizers of either kind: `tokenizer_config.json` and the file of the vocabulary."""

from pathlib import Path

from data_pipeline.errors import DataError
from data_pipeline.files import read_json
from data_pipeline.tokenization.interface import CONFIG_FILE, Tokenizer
from data_pipeline.tokenization.sentencepiece import SentencePiece, load_model
from data_pipeline.tokenization.wordpiece import WordPiece, load_vocab


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Loads the tokenizer in a folder (a corpus, a checkpoint)."""
    folder = Path(folder)
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise DataError(
            f"{folder} holds no tokenizer ({CONFIG_FILE} is missing); give the folder of a corpus "
            "or of a checkpoint"
        )
    config = read_json(path)
    try:
        kind, lowercase, fingerprint = (config[key] for key in ("kind", "lowercase", "fingerprint"))
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not a tokenizer description ({error!r})") from None
    tokenizer = (
        load_vocab(folder / WordPiece.file, lowercase)
        if kind == WordPiece.kind
        else load_model(folder / SentencePiece.file, lowercase)
    )
    if tokenizer.description["fingerprint"] != fingerprint:
        raise DataError(
            f"the vocabulary in {folder} has changed since it was saved (its SHA-256 differs from "
            f"that in {CONFIG_FILE}); copy the folder again"
        )
    return tokenizer
