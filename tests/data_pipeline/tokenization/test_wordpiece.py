"""WordPiece gives what google-research/bert, tokenization.py gives."""

import json
import lzma
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.text.clean import clean_text
from data_pipeline.tokenization.fill_mask import fill_mask_inputs
from data_pipeline.tokenization.training import train_tokenizer
from data_pipeline.tokenization.wordpiece import load_vocab, split_words
from tests.data_pipeline.tokenization import slow_wordpiece

SHARED = os.environ.get("BERT_JAX_SHARED")
GOLDEN = Path(__file__).parents[2] / "golden" / "tokenization"
ROWS = [json.loads(line) for line in (GOLDEN / "pieces.jsonl").read_bytes().splitlines()]
TEXTS = [row[0] for row in ROWS]
EXPECTED = {True: [row[1] for row in ROWS], False: [row[2] for row in ROWS]}  # by `lowercase`


def _pieces(tokenizer, texts):
    """The pieces of each text, separated by spaces."""
    ids, lengths = tokenizer.encode_batch(texts)
    found = np.split(ids, np.cumsum(lengths)[:-1])
    return [" ".join(tokenizer.id_to_piece(int(i)) for i in one) for one in found]


@pytest.mark.parametrize("lowercase", [True, False])
def test_the_recorded_pieces(lowercase):
    tokenizer = load_vocab(GOLDEN / "vocab.txt", lowercase)
    found = _pieces(tokenizer, TEXTS)
    for text, one, expected in zip(TEXTS, found, EXPECTED[lowercase], strict=True):
        assert one == expected, ascii(text)
        assert _pieces(tokenizer, [text]) == [expected]


@pytest.mark.parametrize("lowercase", [True, False])
def test_the_slow_version_gives_the_recorded_pieces(lowercase):
    vocabulary = set((GOLDEN / "vocab.txt").read_text(encoding="utf-8").split("\n"))
    for text, expected in zip(TEXTS, EXPECTED[lowercase], strict=True):
        found = slow_wordpiece.pieces(text, vocabulary, lowercase)
        assert " ".join(found) == expected, ascii(text)


@pytest.mark.parametrize("lowercase", [True, False])
def test_every_character(lowercase):
    # Of letters without case, private use and the unassigned only the edges of blocks and a few
    # more; each character between letters, after a sigma, and before an accent.
    plain = ("Lo", "Co", "Cn", "Cs")
    codes = [
        code
        for code in range(0x110000)
        if (category := unicodedata.category(chr(code))) not in plain
        or (category != "Cs" and code % 16 in (0, 15) and not 0x30000 <= code < 0xE0000)
    ]
    for start in range(0, len(codes), 512):
        text = " ".join(f"A{c}B Σ{c}Α e{c}\u0301" for c in map(chr, codes[start : start + 512]))
        expected = slow_wordpiece.words(text, lowercase)
        assert split_words(text, lowercase) == expected, hex(codes[start])


@pytest.mark.parametrize("lowercase", [True, False])
def test_cleaning_changes_no_piece_but_by_composing_accents_in_a_cased_vocabulary(lowercase):
    tokenizer = load_vocab(GOLDEN / "vocab.txt", lowercase)
    for text, expected in zip(TEXTS, EXPECTED[lowercase], strict=True):
        # No UTF-8 file holds a lone surrogate; cleaning drops those of JSON escapes.
        has_surrogate = any("\ud800" <= c <= "\udfff" for c in text)
        if not has_surrogate and (lowercase or unicodedata.is_normalized("NFC", text)):
            assert _pieces(tokenizer, [clean_text(text)]) == [expected], ascii(text)


@pytest.mark.parametrize("kind", ["wordpiece", "sentencepiece-unigram", "sentencepiece-bpe"])
def test_names_of_special_pieces_are_text_unless_asked_for(kind):
    texts = [f"fill the [MASK] of horse {i}, {i * i} [CLS] {i**3} times" for i in range(300)]
    tokenizer = train_tokenizer(texts, kind, 400, True)
    special = {key: value for key, value in tokenizer.special_ids.items() if key != "unk"}
    ids, _ = tokenizer.encode_batch(["a [MASK] b", "[CLS][SEP][PAD]", "[MASK]"])
    assert not set(special.values()) & set(ids.tolist())
    assert not set(special.values()) & set(tokenizer.encode("x[MASK]y [CLS]"))

    def filled(text):
        return fill_mask_inputs(tokenizer, text, 64)

    input_ids, positions = filled("the [MASK], horse[MASK] [mask]")
    assert (input_ids[positions] == special["mask"]).all()
    assert len(positions) == 2
    assert filled("[MASK]")[0].tolist() == [special[key] for key in ("cls", "mask", "sep")]
    assert len(filled("[MASK][MASK]\u200b[MASK]")[1]) == 3
    np.testing.assert_array_equal(
        filled("\ufeffthe\u00a0[MASK]\x00 \n")[0], filled("the [MASK]")[0]
    )
    for text in ("[mask]", "[ MASK ]", "[MASK", ""):
        with pytest.raises(DataError, match=r"write \[MASK\]"):
            filled(text)


def test_trained_on_capitals_a_vocabulary_has_the_final_sigma():
    tokenizer = train_tokenizer(["Ο ΛΟΓΟΣ ΚΑΙ ΣΟΦΟΣ"] * 50, "wordpiece", 200, True)
    assert tokenizer.special_ids["unk"] not in tokenizer.encode("ΛΟΓΟΣ λόγος σοφός")


@pytest.mark.skipif(not SHARED, reason="BERT_JAX_SHARED is not set")
@pytest.mark.parametrize(
    ("vocab", "lowercase", "source"),
    [
        ("bert-base-uncased", True, "en_wiki"),
        ("bert-base-cased", False, "en_wiki"),
        ("bert-base-chinese", True, "zh_wiki"),
    ],
)
def test_published_vocabularies(vocab, lowercase, source):
    path = Path(SHARED) / "data" / "vocab" / f"{vocab}-vocab.txt"
    tokenizer = load_vocab(path, lowercase)
    vocabulary = {tokenizer.id_to_piece(i) for i in range(tokenizer.vocab_size)}
    with lzma.open(Path(SHARED) / "data" / f"{source}.txt.xz", "rt", encoding="utf-8") as file:
        lines = file.read(400_000).split("\n")
    texts = [*TEXTS, *lines]
    for text, found in zip(texts, _pieces(tokenizer, texts), strict=True):
        expected = slow_wordpiece.pieces(text, vocabulary, lowercase)
        assert found == " ".join(expected), ascii(text)
