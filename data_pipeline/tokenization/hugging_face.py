"""The tokenizer of a downloaded BERT: read from its own files, written for `transformers`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError
from data_pipeline.files import read_json, write_json
from data_pipeline.tokenization.interface import CONFIG_FILE, SPECIAL_PIECES, Tokenizer
from data_pipeline.tokenization.sentencepiece import SentencePiece
from data_pipeline.tokenization.wordpiece import (
    MAX_WORD_CHARACTERS,
    WordPiece,
    load_vocab,
    split_words,
)

# Pieces that represent no text and say nothing about its case: [MASK], [unused1], and the <S> and
# <T> of the original's Chinese vocabulary, which is lower-cased.
_MARKER = re.compile(r"\[.*\]|<.*>")


def load_foreign_tokenizer(
    folder: Path, lowercase: bool | None = None, new_pieces: Sequence[str] = ()
) -> tuple[WordPiece, str]:
    """Reads `vocab.txt`, or the vocabulary in `tokenizer.json`, of a TF1 or Hugging Face model.

    Tokens that were added to the model later follow, and then `new_pieces`; one that is not a word
    by our rules is refused. Without `lowercase`, whether text is lower-cased is taken from
    `tokenizer_config.json` or `tokenizer.json` or, if neither says, from whether a piece has an
    upper-case letter. Returns the tokenizer and how this was determined, in words.
    """
    config, backend = _json(folder / CONFIG_FILE), _json(folder / "tokenizer.json")
    settings = _settings(folder, config, backend)
    vocab = folder / "vocab.txt"
    if vocab.is_file():
        plain = load_vocab(vocab, lowercase=True)
        pieces = [plain.id_to_piece(i) for i in range(plain.vocab_size)]
    elif (folder / "tokenizer.json").is_file():
        vocab = folder / "tokenizer.json"
        pieces = _pieces(vocab, backend)
    else:
        raise DataError(
            f"{folder} holds neither vocab.txt nor tokenizer.json; copy its vocabulary there"
        )
    found = "as asked for"
    if lowercase is None and "lowercase" in settings:
        lowercase, found = settings["lowercase"], "as its settings say"
    if lowercase is None:
        lowercase = not any(p != p.lower() for p in pieces if not _MARKER.fullmatch(p))
        found = f"since {'no' if lowercase else 'a'} piece of it has an upper-case letter"
    if settings.get("strip_accents") not in (None, lowercase):
        raise DataError(
            f"{folder}: strip_accents is {settings['strip_accents']} while lower-casing is "
            f"{lowercase}; only tokenizers that do both or neither can be converted"
        )
    for piece in _added(folder, config, backend, pieces):
        if split_words(piece, lowercase) != [piece]:
            raise DataError(
                f"{folder}: its tokenizer takes the added token {piece!r} out of the text before "
                "it splits words, which ours does not; remove it from the tokenizer's files, and "
                "add --resize-vocabulary"
            )
        pieces.append(piece)
    for piece in new_pieces:
        _check_new(piece, pieces, lowercase)
        pieces.append(piece)
    return WordPiece(pieces, lowercase, str(vocab)), found


def _check_new(piece: str, pieces: Sequence[str], lowercase: bool) -> None:
    """Refuses a piece that is already in the vocabulary or that no text can give."""
    if piece in pieces:
        raise DataError(f"the new token {piece!r} is in the vocabulary already; take it out")
    if not piece or piece != "".join(piece.split()):
        raise DataError(f"the new token {piece!r} is empty or has white space; write one per line")
    words = _words(piece, lowercase)
    stem = piece.removeprefix("##")
    if words == [stem] and 0 < len(stem) <= MAX_WORD_CHARACTERS:
        return
    case = " and lower-cased" if lowercase else ""
    usable = [word for word in words if 0 < len(word) <= MAX_WORD_CHARACTERS]
    new = [word for word in usable if word not in pieces]
    if new:
        fix = f"write {', '.join(map(repr, new))} instead"
    elif usable:
        fix = f"take it out ({', '.join(map(repr, usable))} is in the vocabulary)"
    else:
        fix = "take it out"
    raise DataError(
        f"no text can give the new token {piece!r}: words are split at punctuation{case}, and end "
        f"at {MAX_WORD_CHARACTERS} characters; {fix}"
    )


def _words(piece: str, lowercase: bool) -> list[str]:
    """The words of a piece; of one inside a word ("##"), what is left of it there."""
    if not piece.startswith("##"):
        return split_words(piece, lowercase)
    first, *rest = split_words(f"a{piece[2:]}", lowercase)
    return [first[1:], *rest]


def save_for_transformers(tokenizer: Tokenizer, folder: Path, max_length: int) -> str:
    """Writes what AutoTokenizer reads: `vocab.txt`, `tokenizer.json`, `tokenizer_config.json`.

    `transformers` has no BERT tokenizer for a SentencePiece model, which is copied as it is. The
    folder must exist; `max_length` is that of the model. Returns what was written, in words.
    """
    if not isinstance(tokenizer, WordPiece):
        assert isinstance(tokenizer, SentencePiece)
        tokenizer.save(folder)
        (folder / CONFIG_FILE).unlink()
        return "sentencepiece.model (transformers has no BERT tokenizer for it: use sentencepiece)"
    from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
    from tokenizers import Tokenizer as Backend

    tokenizer.save(folder)
    lowercase = bool(tokenizer.description["lowercase"])
    pieces = {tokenizer.id_to_piece(i): i for i in range(tokenizer.vocab_size)}
    backend = Backend(
        models.WordPiece(
            pieces,
            unk_token=SPECIAL_PIECES["unk"],
            max_input_chars_per_word=MAX_WORD_CHARACTERS,
        )
    )
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=lowercase, lowercase=lowercase
    )
    if not lowercase:  # BertNormalizer does not compose accents, as clean_text does
        backend.normalizer = normalizers.Sequence([normalizers.NFC(), backend.normalizer])
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(
        [AddedToken(piece, special=True, normalized=False) for piece in SPECIAL_PIECES.values()]
    )
    cls, sep = SPECIAL_PIECES["cls"], SPECIAL_PIECES["sep"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, pieces[cls]), (sep, pieces[sep])],
    )
    backend.decoder = decoders.WordPiece(prefix="##")
    backend.save(str(folder / "tokenizer.json"))
    write_json(
        folder / CONFIG_FILE,
        {
            # The class that uses tokenizer.json as it is: BertTokenizer would build its own, whose
            # longest word has 100 characters, not 200 as in the original.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "do_lower_case": lowercase,
            "model_max_length": max_length,
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
            **{f"{key}_token": piece for key, piece in SPECIAL_PIECES.items()},
        },
    )
    return "vocab.txt, tokenizer.json, tokenizer_config.json"


# What our tokenizer does, in terms of `tokenizer.json`. Words of more than 100 characters are [UNK]
# in `transformers`, those of more than 200 in the original and ours.
_EXPECTED: dict[tuple[str, str], tuple[Any, ...]] = {
    ("model", "continuing_subword_prefix"): ("##",),
    ("model", "max_input_chars_per_word"): (100, MAX_WORD_CHARACTERS),
    ("model", "unk_token"): (SPECIAL_PIECES["unk"],),
    ("normalizer", "clean_text"): (True,),
    ("pre_tokenizer", "type"): ("BertPreTokenizer",),
}


def _settings(folder: Path, config: dict[str, Any], backend: dict[str, Any]) -> dict[str, bool]:
    """Whether to lower-case and to strip accents, as far as the folder's files say."""
    if "Japanese" in str(config.get("tokenizer_class")):
        raise DataError(
            f"{folder}: its tokenizer is a {config['tokenizer_class']}; only BERT's own WordPiece "
            "can be converted"
        )
    path = folder / "tokenizer.json"
    parts = {
        name: _object(path, name, backend[name]) if name in backend else {}
        for name in ("model", "pre_tokenizer")
    }
    if "pre_tokenizer" in backend:  # null there means that words are not split
        parts["pre_tokenizer"].setdefault("type", None)
    bert = parts["normalizer"] = _normalizer(path, backend)
    for (part, name), expected in _EXPECTED.items():
        value = parts[part].get(name, expected[0])
        if value not in expected:
            raise DataError(
                f"{path}: {name} of its {part} is {value!r}; only "
                f"{' or '.join(map(repr, expected))} can be converted"
            )
    settings: dict[str, bool] = {}
    for ours, theirs in (("lowercase", "do_lower_case"), ("strip_accents", "strip_accents")):
        for file, value in ((CONFIG_FILE, config.get(theirs)), (path.name, bert.get(ours))):
            if not isinstance(value, bool | None):
                raise DataError(f"{folder / file}: {ours} is {value!r}, neither true nor false")
            if value is not None:
                settings[ours] = value
    if bert.get("handle_chinese_chars", config.get("tokenize_chinese_chars", True)) is False:
        raise DataError(
            f"{folder}: its tokenizer does not split Chinese characters; ours does, like the "
            "original's, so it cannot be converted"
        )
    return settings


def _normalizer(path: Path, backend: dict[str, Any]) -> dict[str, Any]:
    """The BertNormalizer of a `tokenizer.json`, perhaps after an NFC, as in our cased ones."""
    if "normalizer" not in backend:
        return {}
    normalizer = _object(path, "normalizer", backend["normalizer"])
    parts = _objects(path, "normalizers", normalizer.get("normalizers", [normalizer]))
    kinds = [part.get("type") for part in parts]
    if kinds not in (["BertNormalizer"], ["NFC", "BertNormalizer"]):
        raise DataError(
            f"{path}: its normalizer is {' and '.join(map(str, kinds)) or 'nothing'}; only "
            "BertNormalizer, or NFC and then BertNormalizer, can be converted"
        )
    return parts[-1]


def _pieces(path: Path, backend: dict[str, Any]) -> list[str]:
    """The pieces of a `tokenizer.json` in the order of their ids."""
    model = _object(path, "model", backend.get("model", {}))
    if model.get("type", "WordPiece") != "WordPiece" or not isinstance(model.get("vocab"), dict):
        raise DataError(
            f"{path} holds a {model.get('type')} model; only WordPiece can be converted"
        )
    names = {_id(path, piece, number): piece for piece, number in model["vocab"].items()}
    if sorted(names) != list(range(len(model["vocab"]))):
        raise DataError(f"{path}: the ids of its pieces are not 0 to {len(model['vocab']) - 1}")
    return [names[number] for number in range(len(names))]


def _added(
    folder: Path, config: dict[str, Any], backend: dict[str, Any], pieces: Sequence[str]
) -> list[str]:
    """The tokens added to the vocabulary, in the order of their ids, without those that are in it.

    The files list special pieces and others of the vocabulary among the added tokens, too.
    """
    path = folder / "tokenizer.json"
    named: list[tuple[Path, Any, Any]] = [
        (path, token.get("content"), token.get("id"))
        for token in _objects(path, "added_tokens", backend.get("added_tokens", []))
    ]
    path, name = folder / CONFIG_FILE, "added_tokens_decoder"
    for key, token in _object(path, name, config.get(name, {})).items():
        piece = _object(path, name, token).get("content")
        named.append((path, piece, int(key) if key.isdecimal() else key))
    path = folder / "added_tokens.json"
    named += [(path, piece, number) for piece, number in _json(path).items()]
    added: dict[int, str] = {}
    for path, piece, given in named:
        number = _id(path, piece, given)
        known = pieces[number] if number < len(pieces) else added.setdefault(number, piece)
        if not isinstance(piece, str) or piece != known:
            raise DataError(
                f"{path}: its added token {number} is {piece!r}, which is {known!r} elsewhere; "
                "copy all files of the tokenizer again"
            )
    if sorted(added) != list(range(len(pieces), len(pieces) + len(added))):
        raise DataError(
            f"{folder}: its added tokens have the ids {min(added)} to {max(added)}, while its "
            f"vocabulary ends at {len(pieces) - 1}; copy all files of the tokenizer again"
        )
    return [added[number] for number in sorted(added)]


def _id(path: Path, piece: Any, number: Any) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise DataError(f"{path}: the id of {piece!r} is {number!r}, not a number; copy it again")
    return number


def _object(path: Path, name: str, value: Any) -> dict[str, Any]:
    """`value` if it is a JSON object; {} for null."""
    if not isinstance(value, dict | None):
        raise DataError(f"{path}: {name} is {value!r}, not a JSON object; copy it again")
    return value or {}


def _objects(path: Path, name: str, values: Any) -> list[dict[str, Any]]:
    if not isinstance(values, list):
        raise DataError(f"{path}: {name} is {values!r}, not a list; copy it again")
    return [_object(path, name, value) for value in values]


def _json(path: Path) -> dict[str, Any]:
    value = read_json(path, "copy it again") if path.is_file() else {}
    return _object(path, "its content", value)
