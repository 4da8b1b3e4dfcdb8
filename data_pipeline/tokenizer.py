"""Tokenizers: WordPiece and SentencePiece behind one interface, loaded, trained and saved.

A saved tokenizer is two files in any folder (a corpus, a checkpoint): `tokenizer_config.json` and
`vocab.txt` or `sentencepiece.model`.
"""

import hashlib
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from data_pipeline.clean import clean_text
from data_pipeline.errors import DataError
from data_pipeline.shards import write_json

CONFIG_FILE = "tokenizer_config.json"
SPECIAL_PIECES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
MINIMUM_VOCAB_SIZE = 100
MAXIMUM_VOCAB_SIZE = 1 << 20  # of a trained one: the trainers allocate for the size asked for

Kind = Literal["wordpiece", "sentencepiece-unigram", "sentencepiece-bpe"]

_SPECIAL_PATTERN = re.compile("(" + "|".join(map(re.escape, SPECIAL_PIECES.values())) + ")")
# These, and the frequent characters that make up this share of the text, get pieces of their own;
# the rest become [UNK] (WordPiece) or bytes (SentencePiece).
_REQUIRED_CHARACTERS = "".join(map(chr, range(ord("!"), ord("~") + 1)))
_CHARACTER_COVERAGE = 0.9999
_MAX_WORD_CHARACTERS = 200  # google-research/bert, tokenization.py: a longer word is [UNK]
_MAX_CACHED_WORDS = 1 << 17


class Tokenizer(Protocol):
    """What preparation, masking and prediction need of a tokenizer.

    Attributes:
      vocab_size: number of pieces; ids are 0 to vocab_size - 1.
      special_ids: ids of [PAD], [UNK], [CLS], [SEP] and [MASK] under the keys "pad", "unk", "cls",
        "sep" and "mask".
      starts_word: bool [vocab_size], True for the pieces that start a word, and for the special
        pieces; a word is such a piece and all that follow until the next one.
      description: kind, lowercase and fingerprint (SHA-256 of the saved vocabulary or model).
    """

    vocab_size: int
    special_ids: dict[str, int]
    starts_word: np.ndarray
    description: dict[str, Any]

    def encode_batch(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Encodes texts that `clean_text` has cleaned, without adding special pieces.

        Text that looks like a special piece, such as "[MASK]", is ordinary text here.

        Returns:
          The ids of all texts one after the other, uint32 [sum of lengths], and the number of ids
          of each text, int64 [len(texts)].
        """
        ...

    def token_offsets(self, texts: Sequence[str]) -> np.ndarray:
        """Where each id of `encode_batch(texts)` comes from: the first of its characters.

        Returns:
          int64 [sum of lengths], the index of that character in its own text.
        """
        ...

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """Cleans and encodes one text; with `allow_special`, "[MASK]" in it is that piece."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Text of some ids; special pieces appear by their names."""
        ...

    def id_to_piece(self, token_id: int) -> str:
        """The piece of an id, special pieces by their names such as "[MASK]"."""
        ...

    def save(self, folder: Path) -> None:
        """Writes the tokenizer's files into an existing folder."""
        ...


class WordPiece:
    """BERT's tokenizer: words and punctuation, then the longest matching pieces from the left.

    Implements `Tokenizer`.

    Args:
      pieces: the vocabulary in the order of its ids; pieces inside a word begin with "##".
      lowercase: whether text is lower-cased and its accents stripped, as the uncased models do.
      name: what error messages call the vocabulary.

    Raises:
      DataError: a piece occurs twice or a special piece is missing.
    """

    def __init__(self, pieces: Sequence[str], lowercase: bool, name: str = "the vocabulary"):
        ids = {piece: index for index, piece in enumerate(pieces)}
        if len(ids) < len(pieces):
            index = next(i for i, piece in enumerate(pieces) if ids[piece] != i)
            raise DataError(
                f"{name} holds {pieces[index]!r} twice, in lines {index + 1} and "
                f"{ids[pieces[index]] + 1}; every piece must stand in one line only"
            )
        missing = [piece for piece in SPECIAL_PIECES.values() if piece not in ids]
        if missing:
            raise DataError(
                f"{name} lacks {', '.join(missing)}; a BERT vocabulary has one piece a line, "
                f"{' '.join(SPECIAL_PIECES.values())} among them"
            )
        self.vocab_size = len(pieces)
        self.special_ids = {key: ids[piece] for key, piece in SPECIAL_PIECES.items()}
        self.starts_word = np.array([not piece.startswith("##") for piece in pieces])
        self._pieces = list(pieces)
        self._bytes = "".join(piece + "\n" for piece in pieces).encode()
        self._tokenizer = _bert_tokenizer(ids, lowercase)
        self._cache: dict[str, tuple[int, ...]] = {}
        self._offsets: dict[str, tuple[int, ...]] = {}
        self.description = {
            "kind": "wordpiece",
            "lowercase": lowercase,
            "fingerprint": hashlib.sha256(self._bytes).hexdigest(),
        }

    def encode_batch(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        # No piece crosses a word, so each distinct word is encoded once: text repeats its words so
        # much that this is several times faster than encoding whole sentences.
        words = [_WORD.findall(text) for text in texts]
        cache = self._cache
        if len(cache) > _MAX_CACHED_WORDS:
            cache.clear()
        unseen = set().union(*words).difference(cache)
        if unseen:
            encodings = self._tokenizer.encode_batch(list(unseen), add_special_tokens=False)
            cache.update(zip(unseen, (tuple(e.ids) for e in encodings), strict=True))
        ids = [list(itertools.chain.from_iterable(map(cache.__getitem__, line))) for line in words]
        return _flatten(ids)

    def token_offsets(self, texts: Sequence[str]) -> np.ndarray:
        offsets = (
            word.start() + offset
            for text in texts
            for word in _WORD.finditer(text)
            for offset in self._word_offsets(word.group())
        )
        return np.fromiter(offsets, np.int64)

    def _word_offsets(self, word: str) -> tuple[int, ...]:
        cache = self._offsets
        if word not in cache:
            if len(cache) > _MAX_CACHED_WORDS:
                cache.clear()
            encoding = self._tokenizer.encode(word, add_special_tokens=False)
            cache[word] = tuple(start for start, _ in encoding.offsets)
        return cache[word]

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        return _encode(self, text, allow_special)

    def decode(self, ids: Iterable[int]) -> str:
        return " ".join(map(self.id_to_piece, ids)).replace(" ##", "")

    def id_to_piece(self, token_id: int) -> str:
        return self._pieces[token_id]

    def save(self, folder: Path) -> None:
        (folder / "vocab.txt").write_bytes(self._bytes)
        write_json(folder / CONFIG_FILE, self.description)


class SentencePiece:
    """A SentencePiece model, unigram or BPE; implements `Tokenizer`.

    The special pieces are the model's own where it has them under a usual name ([MASK] or <mask>
    and so on; its unknown piece always); those it lacks get ids after its last one, so
    `vocab_size` may be larger than the model's by up to four.

    Args:
      model: the serialized model.
      lowercase: whether the model was trained on lower-cased text; None for a given model, whose
        own normalisation applies whatever it is.
      name: what error messages call the model.

    Raises:
      DataError: the bytes are not a SentencePiece model.
    """

    def __init__(self, model: bytes, lowercase: bool | None, name: str = "the model"):
        import sentencepiece

        self._bytes = model
        try:
            if not model:  # which the library takes for no model given
                raise RuntimeError
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError:
            raise DataError(
                f"{name} is not a SentencePiece model; give a .model file that spm_train wrote"
            ) from None
        size = self._processor.get_piece_size()
        pieces = [self._processor.id_to_piece(i) for i in range(size)]
        self.special_ids = {}
        for key, piece in SPECIAL_PIECES.items():
            names = (piece, f"<{key}>")
            found = [i for i in map(self._processor.piece_to_id, names) if pieces[i] in names]
            if key == "unk":
                found = [self._processor.unk_id()]
            self.special_ids[key] = found[0] if found else len(pieces)
            if not found:
                pieces.append(piece)
        for key, token_id in self.special_ids.items():
            pieces[token_id] = SPECIAL_PIECES[key]
        self.vocab_size = len(pieces)
        self._pieces = pieces
        self.starts_word = np.array([piece.startswith("▁") for piece in pieces])
        self.starts_word[list(self.special_ids.values())] = True
        self.description = {
            "kind": "sentencepiece",
            "lowercase": lowercase,
            "fingerprint": hashlib.sha256(model).hexdigest(),
        }

    def encode_batch(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        ids, lengths = _flatten(self._processor.encode(list(texts), num_threads=1))
        # A model may hold [MASK] as a user-defined piece, which it would find in the text.
        ids[np.isin(ids, list(self.special_ids.values()))] = self.special_ids["unk"]
        return ids, lengths

    def token_offsets(self, texts: Sequence[str]) -> np.ndarray:
        encoded = self._processor.encode(list(texts), num_threads=1, return_type="offset_mapping")
        offsets = (start for text in encoded for start, _ in text["offsets"])
        return np.fromiter(offsets, np.int64)

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        return _encode(self, text, allow_special)

    def decode(self, ids: Iterable[int]) -> str:
        special = set(self.special_ids.values())
        runs = itertools.groupby((int(i) for i in ids), key=special.__contains__)
        return " ".join(
            " ".join(map(self.id_to_piece, run))
            if is_special
            else self._processor.decode(list(run))
            for is_special, run in runs
        )

    def id_to_piece(self, token_id: int) -> str:
        return self._pieces[token_id]

    def save(self, folder: Path) -> None:
        (folder / "sentencepiece.model").write_bytes(self._bytes)
        write_json(folder / CONFIG_FILE, self.description)


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Loads the tokenizer that a folder (a corpus, a checkpoint) holds.

    Raises:
      DataError: the folder holds no tokenizer, or its vocabulary is not the one it was saved with.
    """
    path = Path(folder) / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind, lowercase, fingerprint = (
            config["kind"],
            config["lowercase"],
            config["fingerprint"],
        )
    except OSError:
        raise DataError(
            f"{folder} holds no tokenizer ({CONFIG_FILE} is missing); give the folder of a corpus "
            "or of a checkpoint"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
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


def load_vocab(path: Path, lowercase: bool) -> WordPiece:
    """Reads a `vocab.txt`: UTF-8, one piece a line, its id is the line's number from 0.

    Raises:
      DataError: the file cannot be read, a piece stands twice, a special piece is missing.
    """
    try:
        lines = path.read_bytes().decode().split("\n")
    except OSError as error:
        raise DataError(f"cannot read the vocabulary {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: see byte {error.start:,}") from None
    if not lines[-1]:
        del lines[-1]
    return WordPiece([line.rstrip("\r") for line in lines], lowercase, str(path))


def load_model(path: Path, lowercase: bool | None = None) -> SentencePiece:
    """Reads a SentencePiece `.model` file.

    Raises:
      DataError: the file cannot be read or is not such a model.
    """
    try:
        model = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the model {path}: {error.strerror}") from None
    return SentencePiece(model, lowercase, str(path))


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
        return WordPiece(_train_wordpiece(texts, vocab_size, lowercase), lowercase)
    model_type = kind.removeprefix("sentencepiece-")
    return SentencePiece(_train_sentencepiece(texts, model_type, vocab_size, lowercase), lowercase)


_CJK = (  # what BertNormalizer puts spaces around
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ceaf"
    "\U0002f800-\U0002fa1f"
)
_PUNCTUATION = r"!-/:-@\[-`{-~"  # the ASCII part of what BertPreTokenizer splits at
_WORD = re.compile(f"[{_CJK}]|[{_PUNCTUATION}]+|[^ {_PUNCTUATION}{_CJK}]+")


def _bert_tokenizer(ids: dict[str, int] | None, lowercase: bool) -> Any:
    """BERT's normalisation, word splitting and WordPiece model, from the `tokenizers` library."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, normalizers, pre_tokenizers

    options: dict[str, Any] = {
        "unk_token": SPECIAL_PIECES["unk"],
        "max_input_chars_per_word": _MAX_WORD_CHARACTERS,
    }
    backend = Backend(models.WordPiece(ids, **options) if ids else models.WordPiece(**options))
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=lowercase, lowercase=lowercase
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend


def _flatten(ids: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    flat = np.fromiter(itertools.chain.from_iterable(ids), np.uint32, int(lengths.sum()))
    return flat, lengths


def _encode(tokenizer: Tokenizer, text: str, allow_special: bool) -> list[int]:
    parts = _SPECIAL_PATTERN.split(clean_text(text)) if allow_special else [clean_text(text)]
    names = {piece: tokenizer.special_ids[key] for key, piece in SPECIAL_PIECES.items()}
    ids: list[int] = []
    for index, part in enumerate(parts):
        # re.split puts the separators, here the special pieces, at the odd places.
        if index % 2:
            ids.append(names[part])
        elif part.strip():
            ids.extend(tokenizer.encode_batch([part.strip()])[0].tolist())
    return ids


def _alphabet(texts: Sequence[str], backend: Any, limit: int) -> tuple[list[str], list[str]]:
    """The characters that get pieces, and those of them that occur inside a word."""
    raw = Counter[str]()
    for text in texts:
        raw.update(text)
    normalise = backend.normalizer.normalize_str
    counts = Counter[str]()
    for character, count in raw.items():
        for normalised in normalise(character).replace(" ", ""):
            counts[normalised] += count
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    covered = np.cumsum([counts[character] for character in ranked] or [0])
    needed = 1 + int(np.searchsorted(covered, covered[-1] * _CHARACTER_COVERAGE))
    required = set(normalise(_REQUIRED_CHARACTERS))
    kept = sorted(required | set(ranked[: min(needed, limit)]))
    split = backend.pre_tokenizer.pre_tokenize_str
    return kept, [character for character in kept if len(split(normalise("a" + character))) == 1]


def _train_wordpiece(texts: Sequence[str], vocab_size: int, lowercase: bool) -> list[str]:
    """The trained pieces in the order of their ids."""
    from tokenizers import trainers

    backend = _bert_tokenizer(None, lowercase)
    # Left to itself the trainer numbers the "##" characters in the order of a hash map, and its
    # ties follow these numbers: naming all characters first makes the outcome reproducible.
    kept, inside = _alphabet(texts, backend, limit=vocab_size // 2)
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
    backend.train_from_iterator(texts, trainer)
    ids = backend.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def _train_sentencepiece(
    texts: Sequence[str], model_type: str, vocab_size: int, lowercase: bool
) -> bytes:
    """The serialized model."""
    import sentencepiece

    model = io.BytesIO()
    names = SPECIAL_PIECES
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type=model_type,
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            normalization_rule_name="nmt_nfkc_cf" if lowercase else "nmt_nfkc",
            character_coverage=_CHARACTER_COVERAGE,
            required_chars=_REQUIRED_CHARACTERS,
            byte_fallback=True,
            max_sentence_length=1 << 16,
            pad_id=0,
            unk_id=1,
            bos_id=2,
            eos_id=3,
            pad_piece=names["pad"],
            unk_piece=names["unk"],
            bos_piece=names["cls"],
            eos_piece=names["sep"],
            control_symbols=[names["mask"]],
            num_threads=16,  # fixed: the sums, and so the model, depend on it
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).strip().rsplit("\n", 1)[-1]
        raise DataError(
            f"SentencePiece cannot make {vocab_size:,} pieces of this text: {reason}"
        ) from None
    return model.getvalue()
