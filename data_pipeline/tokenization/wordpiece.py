"""BERT's WordPiece tokenizer, with the pieces of tokenization.py in google-research/bert."""

import functools
import itertools
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.files import read_text
from data_pipeline.tokenization.interface import (
    CHARACTER_COVERAGE,
    REQUIRED_CHARACTERS,
    SPECIAL_PIECES,
    Tokenizer,
    join_ids,
)

MAX_WORD_CHARACTERS = 200  # google-research/bert, tokenization.py: a longer word is [UNK]
_MAX_CACHED_WORDS = 1 << 17

# The blocks whose characters are words of their own (google-research/bert, tokenization.py),
# without kana and Hangul.
_CJK = (
    range(0x3400, 0x4DC0),
    range(0x4E00, 0xA000),
    range(0xF900, 0xFB00),
    range(0x20000, 0x2A6E0),
    range(0x2A700, 0x2CEB0),
    range(0x2F800, 0x2FA20),
)
_NONCHARACTER = "\uffff"  # replaces a lone surrogate, which neither vocabularies nor UTF-8 have


def _cleaned(character: str) -> str:
    category = unicodedata.category(character)
    if character in "\t\n\r" or category == "Zs":
        return " "
    if category in ("Cc", "Cf") or character == "\ufffd":
        return ""
    return _NONCHARACTER if category == "Cs" else character


def _separated(character: str) -> str:
    cleaned = _cleaned(character)
    # In ASCII everything but letters and digits is punctuation, "$" and "^" too.
    ascii_symbol = "!" <= cleaned <= "~" and not cleaned.isalnum()
    punctuation = ascii_symbol or unicodedata.category(character)[0] == "P"
    return f" {cleaned} " if punctuation or any(ord(character) in b for b in _CJK) else cleaned


def _separated_without_accents(character: str) -> str:
    return "" if unicodedata.category(character) == "Mn" else _separated(character)


class _CharacterTable(dict[int, str]):
    """What each character becomes, by its code point, for `str.translate`.

    Filled as characters occur, from the Unicode data of the running Python, as in the original.
    """

    def __init__(self, replacement: Callable[[str], str]):
        self._replacement = replacement

    def __missing__(self, code: int) -> str:
        self[code] = result = self._replacement(chr(code))
        return result


_CLEANED = _CharacterTable(_cleaned)
_SEPARATED = _CharacterTable(_separated)
_SEPARATED_WITHOUT_ACCENTS = _CharacterTable(_separated_without_accents)


def split_words(text: str, lowercase: bool) -> list[str]:
    """The words of a text, which WordPiece then cuts into pieces.

    Control and format characters are removed without leaving a space; punctuation marks and CJK
    characters are words of their own. `lowercase` also strips accents.

    >>> split_words("Ça coûte $5, là-bas", lowercase=True)
    ['ca', 'coute', '$', '5', ',', 'la', '-', 'bas']
    >>> split_words("Ça coûte 5元", lowercase=False)
    ['Ça', 'coûte', '5', '元']
    """
    if not lowercase:
        return text.translate(_SEPARATED).split()
    if text.isascii():
        return text.lower().translate(_SEPARATED).split()
    # Cleaned first and separated last, as in the original: the neighbours of a capital sigma decide
    # which small sigma it becomes, and decomposition makes punctuation (U+037E becomes ";").
    text = text.replace("\ufffd", "")
    if not text.isprintable():  # all else that cleaning changes is not printable
        text = text.translate(_CLEANED)
    text = unicodedata.normalize("NFD", text.lower())
    return text.translate(_SEPARATED_WITHOUT_ACCENTS).split()


@functools.cache
def _characters_kept(character: str, lowercase: bool) -> int:
    """How many characters of words a character becomes, whatever its neighbours."""
    return sum(map(len, split_words(character, lowercase)))


class WordPiece(Tokenizer):
    """BERT's tokenizer: words and punctuation, then the longest matching pieces from the left.

    The pieces are the vocabulary in the order of its ids; those inside a word begin with "##".
    `lowercase` also strips accents, as in the uncased models. `name` is for error messages.
    """

    kind = "wordpiece"
    file = "vocab.txt"

    def __init__(self, pieces: Sequence[str], lowercase: bool, name: str = "the vocabulary"):
        ids = {piece: index for index, piece in enumerate(pieces)}
        if len(ids) < len(pieces):
            index = next(i for i, piece in enumerate(pieces) if ids[piece] != i)
            raise DataError(
                f"{name} holds {pieces[index]!r} twice, in lines {index + 1} and "
                f"{ids[pieces[index]] + 1}; every piece must occur in one line only"
            )
        missing = [piece for piece in SPECIAL_PIECES.values() if piece not in ids]
        if missing:
            raise DataError(
                f"{name} lacks {', '.join(missing)}; a BERT vocabulary has one piece per line, "
                f"{' '.join(SPECIAL_PIECES.values())} among them"
            )
        content = "".join(piece + "\n" for piece in pieces).encode()
        special_ids = {key: ids[piece] for key, piece in SPECIAL_PIECES.items()}
        super().__init__(content, list(pieces), special_ids, lowercase)
        self.starts_word = np.array([not piece.startswith("##") for piece in pieces])
        self._lowercase = lowercase
        self._backend = _backend(ids)
        self._cache: dict[str, tuple[int, ...]] = {}

    def encode_batch(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        # No piece crosses words, so each distinct word is encoded only once: text repeats its words
        # so much that this is several times faster than encoding whole sentences.
        words = [split_words(text, self._lowercase) for text in texts]
        cache = self._cache
        if len(cache) > _MAX_CACHED_WORDS:
            cache.clear()
        unseen = set().union(*words).difference(cache)
        if unseen:
            encodings = self._backend.encode_batch(list(unseen), add_special_tokens=False)
            cache.update(zip(unseen, (tuple(e.ids) for e in encodings), strict=True))
        return join_ids(
            [list(itertools.chain.from_iterable(map(cache.__getitem__, line))) for line in words]
        )

    def token_offsets(self, texts: Sequence[str]) -> np.ndarray:
        self.encode_batch(texts)  # now the cache holds every word
        offsets: list[int] = []
        for text in texts:
            kept = [_characters_kept(character, self._lowercase) for character in text]
            origin = np.repeat(np.arange(len(text)), kept).tolist()
            word_start = 0
            for word in split_words(text, self._lowercase):
                start = word_start
                for piece in map(self.id_to_piece, self._cache[word]):
                    offsets.append(origin[start])
                    start += len(piece.removeprefix("##"))
                word_start += len(word)
        return np.array(offsets, np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        return " ".join(map(self.id_to_piece, ids)).replace(" ##", "")


def load_vocab(path: Path, lowercase: bool) -> WordPiece:
    """Reads a `vocab.txt`: UTF-8, one piece per line, whose id is the line's number from 0."""
    lines = read_text(path).split("\n")
    if not lines[-1]:
        del lines[-1]
    return WordPiece([line.rstrip("\r") for line in lines], lowercase, str(path))


def train_wordpiece(texts: Sequence[str], vocab_size: int, lowercase: bool) -> WordPiece:
    """Trains a vocabulary; see `training.train_tokenizer`."""
    from tokenizers import pre_tokenizers, trainers

    # The trainer itself would number the "##" characters in the order of a hash map, and break ties
    # by these numbers: naming all characters beforehand makes the outcome reproducible.
    texts = [" ".join(split_words(text, lowercase)) for text in texts]
    required = "".join(split_words(REQUIRED_CHARACTERS, lowercase))
    kept, inside = _alphabet(texts, required, limit=vocab_size // 2)
    first = [*SPECIAL_PIECES.values(), *kept, *("##" + character for character in inside)]
    if len(first) > vocab_size:
        raise DataError(
            f"a vocabulary of {vocab_size:,} pieces is too small for this text, whose characters "
            f"alone need {len(first):,}; ask for a larger --vocab-size"
        )
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=first,
        limit_alphabet=len(kept),
        initial_alphabet=kept,
        show_progress=False,
    )
    backend = _backend({})
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.train_from_iterator(texts, trainer)
    ids = backend.get_vocab()
    return WordPiece(sorted(ids, key=ids.__getitem__), lowercase)


def _backend(ids: dict[str, int]) -> Any:
    """The `tokenizers` library's greedy longest match, for single words."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models

    unknown = SPECIAL_PIECES["unk"]
    return Backend(
        models.WordPiece(ids, unk_token=unknown, max_input_chars_per_word=MAX_WORD_CHARACTERS)
    )


def _alphabet(texts: Iterable[str], required: str, limit: int) -> tuple[list[str], list[str]]:
    """The characters that get pieces, and those of them that occur inside a word."""
    counts = Counter[str]()
    for text in texts:
        counts.update(text)
    del counts[" "]
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    covered = np.cumsum([counts[character] for character in ranked] or [0])
    needed = 1 + int(np.searchsorted(covered, covered[-1] * CHARACTER_COVERAGE))
    kept = sorted({*required, *ranked[: min(needed, limit)]})
    return kept, [character for character in kept if _separated(character) == character]
