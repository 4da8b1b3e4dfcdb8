"""A saved tokenizer, of either kind.

It is two files in any folder (a corpus, a checkpoint): `tokenizer_config.json` and `vocab.txt` or
`sentencepiece.model`.
"""

from pathlib import Path

from data_pipeline.errors import DataError
from data_pipeline.files import read_json
from data_pipeline.tokenization.interface import CONFIG_FILE, Tokenizer
from data_pipeline.tokenization.sentencepiece import load_model
from data_pipeline.tokenization.wordpiece import load_vocab


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
