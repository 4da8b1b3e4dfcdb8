"""Tokenizers of downloaded models: their settings are followed, or refused by name."""

import json

import pytest

from data_pipeline.errors import DataError
from data_pipeline.tokenization.hugging_face import load_foreign_tokenizer, save_for_transformers
from data_pipeline.tokenization.training import train_tokenizer
from data_pipeline.tokenization.wordpiece import WordPiece

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "e"]


def write(folder, pieces=PIECES, config=None, tokenizer=None):
    if pieces:
        (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces))
    for name, values in (("tokenizer_config.json", config), ("tokenizer.json", tokenizer)):
        if values is not None:
            (folder / name).write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("pieces", "config", "tokenizer", "lowercase", "found"),
    [
        (PIECES, None, None, True, "no piece"),
        ([*PIECES, "The"], None, None, False, "a piece"),
        ([*PIECES, "<S>", "<T>", "[unusedA]"], None, None, True, "no piece"),
        (PIECES, {"do_lower_case": False}, None, False, "settings"),
        ([*PIECES, "The"], {"do_lower_case": True}, None, True, "settings"),
        (
            PIECES,
            {"do_lower_case": True},
            {"normalizer": {"type": "BertNormalizer", "lowercase": False, "strip_accents": None}},
            False,
            "settings",
        ),
    ],
)
def test_lower_casing(tmp_path, pieces, config, tokenizer, lowercase, found):
    write(tmp_path, pieces, config, tokenizer)
    loaded, how = load_foreign_tokenizer(tmp_path)
    assert loaded.description["lowercase"] is lowercase
    assert found in how
    asked, how = load_foreign_tokenizer(tmp_path, lowercase=not lowercase)
    assert asked.description["lowercase"] is not lowercase
    assert how == "as asked for"


def test_vocabulary_from_tokenizer_json(tmp_path):
    vocab = {piece: index for index, piece in reversed(list(enumerate(PIECES)))}
    write(tmp_path, [], None, {"model": {"type": "WordPiece", "vocab": vocab}})
    loaded, _ = load_foreign_tokenizer(tmp_path, new_pieces=["dog"])
    assert [loaded.id_to_piece(i) for i in range(10)] == [*PIECES, "dog"]
    assert loaded.encode("The cats dog") == [5, 6, 7, 9]


@pytest.mark.parametrize(
    ("piece", "lowercase", "message"),
    [
        ("house-cat", None, "no text can give .*'house-cat'.* write 'house', '-' instead"),
        ("Cat", None, "take it out .'cat' is in the vocabulary"),
        ("DNA", None, "write 'dna' instead"),  # which does not make the vocabulary a cased one
        ("naïve", None, "write 'naive' instead"),
        ("naïve", False, ""),
        ("DNA", False, ""),
        ("##ing", None, ""),
        ("##", None, "take it out"),
        ("##-", None, "write '-' instead"),
        ("x" * 201, None, "take it out"),
        ("x" * 200, None, ""),
        ("cat", None, "in the vocabulary already"),
        ("a cat", None, "white space"),
        ("", None, "is empty"),
    ],
)
def test_new_pieces_are_such_as_text_can_give(tmp_path, piece, lowercase, message):
    write(tmp_path)
    if message:
        with pytest.raises(DataError, match=message):
            load_foreign_tokenizer(tmp_path, lowercase, [piece])
        return
    tokenizer, _ = load_foreign_tokenizer(tmp_path, lowercase, [piece])
    text = piece if not piece.startswith("##") else f"the{piece[2:]}"
    assert tokenizer.encode(text)[-1] == len(PIECES)


@pytest.mark.parametrize(
    ("config", "tokenizer", "message"),
    [
        ({"do_lower_case": True, "strip_accents": False}, None, "strip_accents is False"),
        ({"tokenize_chinese_chars": False}, None, "does not split Chinese"),
        ({"tokenizer_class": "BertJapaneseTokenizer"}, None, "BertJapaneseTokenizer"),
        (None, {"normalizer": {"type": "BertNormalizer", "handle_chinese_chars": False}}, "Chin"),
        (None, {"normalizer": {"type": "BertNormalizer", "clean_text": False}}, "clean_text"),
        (None, {"normalizer": {"type": "Lowercase"}}, "its normalizer is Lowercase"),
        (None, {"normalizer": None}, "its normalizer is None"),
        (
            None,
            {"normalizer": {"normalizers": [{"type": "BertNormalizer"}, {"type": "StripAccents"}]}},
            "its normalizer is BertNormalizer and StripAccents",
        ),
        (None, {"pre_tokenizer": {"type": "Whitespace"}}, "pre_tokenizer is 'Whitespace'"),
        (None, {"pre_tokenizer": None}, "pre_tokenizer is None"),
        (None, {"model": {"continuing_subword_prefix": "@@"}}, "prefix of its model is '@@'"),
        (None, {"model": {"max_input_chars_per_word": 50}}, "is 50; only 100 or 200"),
        (None, {"model": {"unk_token": "<unk>"}}, "unk_token of its model is '<unk>'"),
    ],
)
def test_settings_that_ours_lacks(tmp_path, config, tokenizer, message):
    write(tmp_path, PIECES, config, tokenizer)
    with pytest.raises(DataError, match=message):
        load_foreign_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (None, "neither vocab.txt nor tokenizer.json"),
        ({"model": {"type": "BPE", "vocab": {}}}, "holds a BPE model"),
        ({"model": {"type": "WordPiece", "vocab": {"a": 0, "b": 2}}}, "not 0 to 1"),
        ([], "not a JSON object"),
        ({"model": "x"}, "model is 'x', not a JSON object"),
        ({"model": {"vocab": {"a": "0"}}}, "the id of 'a' is '0', not a number"),
        ({"model": {"vocab": {"a": 0, "b": 0}}}, "not 0 to 1"),
    ],
)
def test_no_vocabulary(tmp_path, tokenizer, message):
    write(tmp_path, [], None, tokenizer)
    with pytest.raises(DataError, match=message):
        load_foreign_tokenizer(tmp_path)


ADDED = {
    "tokenizer.json": {
        "added_tokens": [{"id": 4, "content": "[MASK]"}, {"id": 9, "content": "dog"}]
    },
    "tokenizer_config.json": {"added_tokens_decoder": {"9": {"content": "dog"}}},
    "added_tokens.json": {"dog": 9},
}


@pytest.mark.parametrize("files", [*([name] for name in ADDED), list(ADDED)])
def test_added_tokens_follow_the_vocabulary(tmp_path, files):
    write(tmp_path)
    for name in files:
        (tmp_path / name).write_text(json.dumps(ADDED[name]))
    tokenizer, _ = load_foreign_tokenizer(tmp_path, new_pieces=["fox"])
    assert tokenizer.vocab_size == 11
    assert tokenizer.encode("the dog fox") == [5, 9, 10]


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ({"<e1>": 9}, "added token '<e1>' out of the text"),
        ({"DNA": 9}, "added token 'DNA' out of the text"),
        ({"##ing": 9}, "added token '##ing' out of the text"),
        ({"dog": 10}, "the ids 10 to 10, while its vocabulary ends at 8"),
        ({"dog": 5}, "added token 5 is 'dog', which is 'the' elsewhere"),
        ({"dog": 9, "fox": 9}, "added token 9 is 'fox', which is 'dog' elsewhere"),
        ({"dog": "9"}, "the id of 'dog' is '9', not a number"),
        (["dog"], "not a JSON object"),
    ],
)
def test_added_tokens_that_ours_cannot_have(tmp_path, added, message):
    write(tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    with pytest.raises(DataError, match=message):
        load_foreign_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("config", "tokenizer", "message"),
    [
        (None, {"normalizer": "x"}, "normalizer is 'x', not a JSON object"),
        (None, {"normalizer": {"normalizers": ["x"]}}, "normalizers is 'x', not a JSON object"),
        (None, {"normalizer": {"normalizers": 3}}, "normalizers is 3, not a list"),
        (None, {"model": "x"}, "model is 'x', not a JSON object"),
        (None, {"added_tokens": {"dog": 9}}, "added_tokens is .*, not a list"),
        (None, {"added_tokens": [{"id": 9}]}, "added token 9 is None"),
        (None, {"added_tokens": [9]}, "added_tokens is 9, not a JSON object"),
        ({"added_tokens_decoder": {"x": {"content": "dog"}}}, None, "the id of 'dog' is 'x'"),
        ({"added_tokens_decoder": {"9": "dog"}}, None, "is 'dog', not a JSON object"),
        ({"do_lower_case": "false"}, None, "lowercase is 'false', neither true nor false"),
    ],
)
def test_damaged_settings_are_one_line(tmp_path, config, tokenizer, message):
    write(tmp_path, PIECES, config, tokenizer)
    with pytest.raises(DataError, match=message):
        load_foreign_tokenizer(tmp_path)


def test_a_sentencepiece_model_is_written_as_it_is(tmp_path):
    texts = ["the quick brown fox jumps over the lazy dog", "pack my box with five liquor jugs"]
    ours = train_tokenizer(texts * 20, "sentencepiece-unigram", 400, lowercase=True)
    said = save_for_transformers(ours, tmp_path, 128)
    assert "use sentencepiece" in said
    assert [path.name for path in tmp_path.iterdir()] == ["sentencepiece.model"]


@pytest.mark.parametrize("lowercase", [True, False])
def test_what_is_written_for_transformers_is_read_again(tmp_path, lowercase):
    ours = WordPiece(PIECES, lowercase)
    save_for_transformers(ours, tmp_path, 128)
    for name in ("", "vocab.txt"):
        if name:
            (tmp_path / name).unlink()
        again, how = load_foreign_tokenizer(tmp_path)
        assert again.description == ours.description
        assert how == "as its settings say"
