"""WordPiece against the live tokenizer of transformers, and the places where the two differ."""

import json
import re
import unicodedata
from pathlib import Path

import pytest
from transformers import BertTokenizerFast

from data_pipeline.tokenization.wordpiece import load_vocab

GOLDEN = Path(__file__).parents[1] / "golden" / "tokenization"
TEXTS = [json.loads(line)[0] for line in (GOLDEN / "pieces.jsonl").read_bytes().splitlines()]


def _tokenizers(folder, lowercase):
    """Ours and theirs, of the vocabulary in a folder."""
    return (
        load_vocab(folder / "vocab.txt", lowercase),
        BertTokenizerFast.from_pretrained(str(folder), do_lower_case=lowercase),
    )


def _is_told_to_differ(text, lowercase):
    """Whether docs/data.md lists what is in the text among the differences.

    Characters newer than Unicode 3.2 are counted as newer than the tables of transformers.
    """
    old = unicodedata.ucd_3_2_0.category
    return (
        any(unicodedata.category(c) in ("Co", "Cs", "Cn") for c in text)
        or any(unicodedata.category(c) != old(c) for c in text)
        or re.search(r"\[(PAD|UNK|CLS|SEP|MASK)\]", text)
        or any(len(word) > 100 for word in unicodedata.normalize("NFD", text).split())
        or (lowercase and "Σ" in text)
    )


@pytest.mark.parametrize("lowercase", [True, False])
def test_same_pieces_and_ids(lowercase):
    ours, theirs = _tokenizers(GOLDEN, lowercase)
    texts = [text for text in TEXTS if not _is_told_to_differ(text, lowercase)]
    assert len(texts) > 400
    for text in texts:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False), ascii(text)


@pytest.mark.parametrize(
    ("text", "ours", "theirs"),
    [
        ("b [MASK]", "b [ m ##a ##s ##k ]", "b [MASK]"),
        ("b" * 101, "b" + " ##b" * 100, "[UNK]"),
        ("ΑΣ", "α ##ς", "α ##σ"),
        ("\ue000b b", "[UNK] b", "b b"),  # private use
        ("b\U0001e95e", "b \U0001e95e", "b ##\U0001e95e"),  # Adlam punctuation, Unicode 9
        ("b\U0001e944", "b", "b ##\U0001e944"),  # Adlam accent, Unicode 9
    ],
)
def test_told_differences(tmp_path, text, ours, theirs):
    characters = "[]bmaskας\U0001e944\U0001e95eσ"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
    pieces += ["##" + character for character in characters]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    our_tokenizer, their_tokenizer = _tokenizers(tmp_path, lowercase=True)
    found = [our_tokenizer.id_to_piece(i) for i in our_tokenizer.encode(text)]
    assert found == ours.split(" ")
    assert their_tokenizer.tokenize(text) == theirs.split(" ")


@pytest.mark.parametrize("lowercase", [True, False])
def test_special_pieces_where_they_are_meant(lowercase):
    ours, theirs = _tokenizers(GOLDEN, lowercase)
    for text in ("the [MASK] is", "a[MASK]b[SEP] [CLS]", "[MASK][MASK] x", " [MASK]\n", "[[MASK]]"):
        expected = theirs.encode(text, add_special_tokens=False)
        assert ours.encode(text, allow_special=True) == expected
