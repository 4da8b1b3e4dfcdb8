import unicodedata

import pytest
import sentencepiece

from data_pipeline.tokenization.interface import SPECIAL_PIECES
from data_pipeline.tokenization.loading import load_tokenizer
from data_pipeline.tokenization.sentencepiece import load_model
from data_pipeline.tokenization.training import train_tokenizer

TEXTS = [
    f"The {noun} number {i} isn't {verb}ing, ${i * i}, 你好世界{i}！今天天气很好，我们去公园。"
    for i in range(80)
    for noun in ("horse", "house", "mouse")
    for verb in ("carry", "burn")
]
ROUND_TRIPS = [
    "The horse isn't carrying 42 mice.",
    "  many \t spaces\u3000here\n",
    "你好，世界！今天我们去公园。",
    "ＦＵＬＬ ﬁne cafe\u0301 ½",
    "UPPER and lower",
    "",
    " ",
]
UNSEEN = ["🦄 ЖИТЬ", "ไทย हिन्दी", "龘靐", "👩🏽 ☎", "𝄞 \ue000"]


@pytest.fixture(
    scope="module", params=["sentencepiece-unigram", "sentencepiece-bpe"], ids=["unigram", "bpe"]
)
def kind(request):
    return request.param


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def lowercase(request):
    return request.param


@pytest.fixture(scope="module")
def trained(kind, lowercase):
    return train_tokenizer(TEXTS, kind, 500, lowercase)


def _normalised(text, lowercase):
    text = unicodedata.normalize("NFKC", text)
    return " ".join((text.lower() if lowercase else text).split())


@pytest.mark.parametrize("text", [*ROUND_TRIPS, *UNSEEN, *TEXTS[:3]])
def test_decoding_gives_the_normalised_text(trained, lowercase, text):
    ids = trained.encode(text)
    assert trained.decode(ids) == _normalised(text, lowercase)
    assert trained.special_ids["unk"] not in ids
    assert trained.encode(trained.decode(ids)) == ids


@pytest.mark.parametrize("text", UNSEEN)
def test_unseen_characters_are_bytes(trained, lowercase, text):
    pieces = [trained.id_to_piece(i) for i in trained.encode(text)]
    numbers = [int(piece[1:-1], 16) for piece in pieces if piece.startswith("<0x")]
    assert bytes(numbers).decode() == _normalised(text, lowercase).replace(" ", "")


def test_loading_gives_the_same(trained, tmp_path):
    trained.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    for text in [*ROUND_TRIPS, *UNSEEN]:
        assert loaded.encode(text) == trained.encode(text)
    assert [loaded.id_to_piece(i) for i in range(5)] == list(SPECIAL_PIECES.values())


def test_special_pieces_go_through_both_ways(trained, lowercase):
    text = "[CLS] The [MASK] isn't [MASK] 你好 [SEP]"
    ids = trained.encode(text, allow_special=True)
    special = [i for i in ids if i in trained.special_ids.values()]
    assert special == [trained.special_ids[key] for key in ("cls", "mask", "mask", "sep")]
    assert trained.decode(ids) == (text.replace("The", "the") if lowercase else text)


@pytest.mark.parametrize("byte_fallback", [True, False])
def test_a_given_model_with_its_own_special_pieces(tmp_path, kind, byte_fallback):
    # As ALBERT has them: <pad> and <unk> first, then [CLS], [SEP] and [MASK] as control symbols.
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_prefix=str(tmp_path / "given"),
        model_type=kind.removeprefix("sentencepiece-"),
        vocab_size=480,
        hard_vocab_limit=False,
        byte_fallback=byte_fallback,
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        control_symbols=["[CLS]", "[SEP]", "[MASK]"],
        minloglevel=2,
    )
    tokenizer = load_model(tmp_path / "given.model")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "given.model"))
    assert tokenizer.vocab_size == processor.get_piece_size()
    assert tokenizer.special_ids == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    for text in ["The horse isn't here, 你好世界！", "a [MASK] b", *UNSEEN]:
        ids = tokenizer.encode(text)
        assert ids == processor.encode(text)
        if byte_fallback:
            assert tokenizer.decode(ids) == _normalised(text, lowercase=False)
    unknown = tokenizer.encode("🦄")
    assert (tokenizer.special_ids["unk"] in unknown) != byte_fallback
