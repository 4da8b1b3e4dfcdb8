"""What the rest of the pipeline knows about a tokenizer."""

import abc
import hashlib
import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.files import write_json

CONFIG_FILE = "tokenizer_config.json"
SPECIAL_PIECES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}

# In a trained vocabulary, these characters and the frequent ones that make up this share of the
# text get pieces of their own; the rest become [UNK] (WordPiece) or bytes (SentencePiece).
REQUIRED_CHARACTERS = "".join(map(chr, range(ord("!"), ord("~") + 1)))
CHARACTER_COVERAGE = 0.9999

_SPECIAL_PATTERN = re.compile("(" + "|".join(map(re.escape, SPECIAL_PIECES.values())) + ")")


class Tokenizer(abc.ABC):
    """What preparation, masking and prediction need of a tokenizer.

    Attributes:
      vocab_size: number of pieces; ids are 0 to vocab_size - 1.
      special_ids: ids of [PAD], [UNK], [CLS], [SEP] and [MASK] under the keys "pad", "unk", "cls",
        "sep" and "mask".
      starts_word: bool [vocab_size], True for pieces that start a word and for special pieces; a
        word is such a piece and all that follow it until the next one.
      description: kind, lowercase and fingerprint (SHA-256 of the saved vocabulary or model).
    """

    kind: str
    file: str  # that a vocabulary or model of this kind is saved in
    starts_word: np.ndarray

    def __init__(
        self,
        content: bytes,
        pieces: Sequence[str],
        special_ids: dict[str, int],
        lowercase: bool | None,
    ):
        self._content = content  # of the file
        self._pieces = pieces
        self.vocab_size = len(pieces)
        self.special_ids = special_ids
        self.description: dict[str, Any] = {
            "kind": self.kind,
            "lowercase": lowercase,
            "fingerprint": hashlib.sha256(content).hexdigest(),
        }

    @abc.abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Encodes texts without adding special pieces; "[MASK]" in a text is ordinary text.

        Returns:
          The ids of all texts one after the other, uint32 [sum of lengths], and the number of ids
          of each text, int64 [len(texts)].
        """

    @abc.abstractmethod
    def token_offsets(self, texts: Sequence[str]) -> np.ndarray:
        """The index in its own text of the first character of each id of `encode_batch`, int64."""

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """Encodes one text; with `allow_special`, "[MASK]" in it is that piece."""
        if not allow_special:
            return self.encode_batch([text])[0].tolist()
        ids_by_name = {piece: self.special_ids[key] for key, piece in SPECIAL_PIECES.items()}
        # re.split puts the separators, here the special pieces, at the odd indices.
        parts = _SPECIAL_PATTERN.split(text)
        ordinary, lengths = self.encode_batch([part.strip() for part in parts[::2]])
        ids = np.split(ordinary, np.cumsum(lengths)[:-1])
        result = ids[0].tolist()
        for name, following in zip(parts[1::2], ids[1:], strict=True):
            result += [ids_by_name[name], *following.tolist()]
        return result

    @abc.abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Text of some ids; special pieces appear by their names."""

    def id_to_piece(self, token_id: int) -> str:
        """The piece of an id, special pieces by their names such as "[MASK]"."""
        return self._pieces[token_id]

    def save(self, folder: Path) -> None:
        """Writes the tokenizer's files into an existing folder."""
        (folder / self.file).write_bytes(self._content)
        write_json(folder / CONFIG_FILE, self.description)


def join_ids(ids: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """The ids of texts as `Tokenizer.encode_batch` returns them."""
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    joined = np.fromiter(itertools.chain.from_iterable(ids), np.uint32, int(lengths.sum()))
    return joined, lengths
