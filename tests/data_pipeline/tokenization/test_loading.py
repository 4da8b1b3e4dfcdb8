import json
import random

import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.text.clean import clean_text
from data_pipeline.tokenization.interface import SPECIAL_PIECES
from data_pipeline.tokenization.loading import load_tokenizer
from data_pipeline.tokenization.sentencepiece import load_model
from data_pipeline.tokenization.training import train_tokenizer
from data_pipeline.tokenization.wordpiece import WordPiece, load_vocab
from tests.data_pipeline.tokenization import slow_wordpiece

SPECIAL = list(SPECIAL_PIECES.values())
TEXTS = [
    clean_text(
        f"The {noun} number {i} isn't {verb}ing the café's unbelievable {noun}s, 你好世界{i}!"
    )
    for i in range(80)
    for noun in ("horse", "house", "mouse")
    for verb in ("carry", "burn", "bury")
]


@pytest.mark.parametrize("lowercase", [True, False])
def test_wordpiece_is_greedy_longest_match(lowercase):
    tokenizer = train_tokenizer(TEXTS, "wordpiece", 300, lowercase)
    pieces = {tokenizer.id_to_piece(i) for i in range(tokenizer.vocab_size)}
    generator = random.Random(0)
    alphabet = "abehorsuy ABÉé.,'!-_[]$€你好 界  ßΣ…"
    texts = [*TEXTS[:50], "x" * 200, "x" * 201, "a[MASK]b [CLS]", "naïve Ünïcode"]
    texts += ["".join(generator.choices(alphabet, k=40)) for _ in range(300)]
    ids, lengths = tokenizer.encode_batch(list(map(clean_text, texts)))
    assert ids.dtype == np.uint32
    assert lengths.sum() == len(ids)
    for text, found in zip(texts, np.split(ids, np.cumsum(lengths)[:-1]), strict=True):
        expected = slow_wordpiece.pieces(clean_text(text), pieces, lowercase)
        assert [tokenizer.id_to_piece(i) for i in found] == expected, text


@pytest.mark.parametrize("kind", ["wordpiece", "sentencepiece-unigram", "sentencepiece-bpe"])
def test_a_trained_tokenizer(kind, tmp_path):
    tokenizer = train_tokenizer(TEXTS, kind, 420, True)
    assert [tokenizer.id_to_piece(i) for i in range(5)] == SPECIAL
    assert tokenizer.special_ids == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    again = train_tokenizer(TEXTS, kind, 420, True)
    assert again.description == tokenizer.description
    assert tokenizer.vocab_size <= 420

    ids, _ = tokenizer.encode_batch(["the horse isn't here [MASK]"])
    assert not set(ids.tolist()) & {0, 2, 3, 4}, "special pieces in ordinary text"
    marked = tokenizer.encode(" The [MASK]  is here [SEP]", allow_special=True)
    assert marked.count(4) == 1
    assert marked[-1] == 3
    assert tokenizer.decode(marked) == "the [MASK] is here [SEP]"
    assert tokenizer.encode("", allow_special=True) == []

    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.description == tokenizer.description
    assert loaded.vocab_size == tokenizer.vocab_size
    for one, other in zip(loaded.encode_batch(TEXTS), tokenizer.encode_batch(TEXTS), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", ["wordpiece", "sentencepiece-unigram"])
def test_starts_word_marks_words(kind):
    tokenizer = train_tokenizer(TEXTS, kind, 420, True)
    ids, _ = tokenizer.encode_batch(["unbelievable horses burning"])
    assert tokenizer.starts_word.shape == (tokenizer.vocab_size,)
    assert tokenizer.starts_word[ids].sum() == 3
    assert tokenizer.starts_word[:5].all()


def test_wordpiece_vocabulary_covers_ascii_and_the_text():
    tokenizer = train_tokenizer(["你好世界" * 50] * 20, "wordpiece", 300, True)
    ids, _ = tokenizer.encode_batch(["你好 0 9 z ~ 世界"])
    assert tokenizer.special_ids["unk"] not in ids


def test_given_sentencepiece_model_gets_the_special_pieces_it_lacks(tmp_path):
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_prefix=str(tmp_path / "own"),
        vocab_size=120,
        user_defined_symbols=["<mask>"],
        minloglevel=2,
    )
    tokenizer = load_model(tmp_path / "own.model")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "own.model"))
    assert tokenizer.special_ids == {
        "pad": 120,
        "unk": processor.unk_id(),
        "cls": 121,
        "sep": 122,
        "mask": processor.piece_to_id("<mask>"),
    }
    assert tokenizer.vocab_size == 123 == len(tokenizer.starts_word)
    assert tokenizer.encode(TEXTS[0]) == processor.encode(TEXTS[0])
    assert tokenizer.special_ids["mask"] not in tokenizer.encode("the <mask> horse")
    assert tokenizer.decode([121, *processor.encode("The horse"), 122]) == "[CLS] The horse [SEP]"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([*SPECIAL, "a", "b", "a"], "'a' twice, in lines 6 and 8"),
        (["a", "b", "[UNK]"], r"lacks \[PAD\], \[CLS\], \[SEP\], \[MASK\]"),
        ([], "lacks"),
    ],
)
def test_bad_vocabularies_are_refused(tmp_path, lines, message):
    path = tmp_path / "vocab.txt"
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_vocab(path, True)


def test_vocabulary_file_may_have_windows_line_ends_and_no_last_one(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("\r\n".join([*SPECIAL, "a\u2028b", "ß"]).encode())
    tokenizer = load_vocab(path, False)
    assert tokenizer.vocab_size == 7
    assert tokenizer.id_to_piece(5) == "a\u2028b"


def test_unreadable_files_are_refused(tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"[PAD]\ncaf\xe9\n")
    with pytest.raises(DataError, match=r"latin.txt is not UTF-8 .*byte 9"):
        load_vocab(tmp_path / "latin.txt", True)
    with pytest.raises(DataError, match=r"none.txt cannot be read"):
        load_vocab(tmp_path / "none.txt", True)
    with pytest.raises(DataError, match="is not a SentencePiece model"):
        load_model(tmp_path / "latin.txt")
    (tmp_path / "empty.model").touch()
    with pytest.raises(DataError, match="is not a SentencePiece model"):
        load_model(tmp_path / "empty.model")
    with pytest.raises(DataError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)


def test_a_vocabulary_changed_after_saving_is_refused(tmp_path):
    WordPiece([*SPECIAL, "a", "b"], True).save(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, "b", "a"]) + "\n")
    with pytest.raises(DataError, match="SHA-256 differs from"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"kind": "wordpiece"}))
    with pytest.raises(DataError, match="lowercase"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("kind", "size"),
    [("wordpiece", 99), ("wordpiece", 10**12), ("wordpiece", 110), ("sentencepiece-unigram", 150)],
)
def test_sizes_that_cannot_work_are_refused(kind, size):
    with pytest.raises(DataError, match=f"{size:,}"):
        train_tokenizer(TEXTS, kind, size, True)
