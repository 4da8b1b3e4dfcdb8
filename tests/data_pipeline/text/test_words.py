"""Chinese words: from the segmenter to the tokens, the corpus and the masks."""

import importlib.util
import itertools
import json
import random
import shutil
import tempfile
from dataclasses import replace

import numpy as np
import pytest

from data_pipeline.corpus import writing
from data_pipeline.corpus.shards import open_corpus
from data_pipeline.errors import DataError
from data_pipeline.prepare import PrepareConfig, prepare
from data_pipeline.pretraining.batches import DataConfig, batches
from data_pipeline.text import sources
from data_pipeline.text.clean import clean_text
from data_pipeline.text.words import load_segmenter, mark_words
from data_pipeline.tokenization.loading import load_tokenizer
from data_pipeline.tokenization.training import train_tokenizer
from data_pipeline.tokenization.wordpiece import split_words

WORDS = ["我们", "来到", "北京", "清华大学", "学习", "计算机", "科学", "图书馆", "研究", "语言"]
WORDS += ["模型", "今天", "天气", "很", "好", "的", "在", "是"]
MARKS = "，、"
TEXTS = ["".join(WORDS) + "。 hello world 3.14", "北京 hello"] * 20


def _documents(count):
    generator = random.Random(0)
    return [
        [
            generator.choice(MARKS).join(
                "".join(generator.choices(WORDS, k=6)) for _ in range(generator.randint(1, 3))
            )
            + f"{generator.randrange(10**6)}。"
            for _ in range(generator.randint(1, 6))
        ]
        for _ in range(count)
    ]


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "zh.txt"
    text = "\n\n".join("\n".join(document) for document in _documents(150))
    path.write_text(text, encoding="utf-8")
    return PrepareConfig(
        input=(str(path),),
        output=tmp_path / "corpus",
        language="zh",
        vocab_size=300,
        word_segmenter="jieba",
        heldout_fraction=0.1,
        processes=1,
    )


def marked(tokenizer, sentences, parts):
    """Tokens of each word, given how the sentences are parted."""
    ids, lengths = tokenizer.encode_batch(sentences)
    segment = dict(zip(sentences, parts, strict=True)).__getitem__
    starts = mark_words(sentences, segment, tokenizer.token_offsets(sentences), lengths)
    assert starts.dtype == bool
    bounds = np.flatnonzero(np.append(starts, True))
    pieces = [tokenizer.id_to_piece(int(token)) for token in ids]
    return [pieces[a:b] for a, b in itertools.pairwise(bounds)]


def test_wordpieces_of_a_word():
    tokenizer = train_tokenizer(TEXTS, "wordpiece", 250, True)
    sentences = ["我们来到 北京， héllo龘3.14", "天气"]
    parts = [["我们", "来到", " ", "北京", "，", " ", "héllo", "龘", "3.14"], ["天气"]]
    assert marked(tokenizer, sentences, parts) == [
        ["我", "们"],
        ["来", "到"],
        ["北", "京"],
        ["[UNK]"],
        ["hello"],
        ["[UNK]"],
        ["3", ".", "14"],
        ["天", "气"],
    ]


@pytest.mark.parametrize("kind", ["sentencepiece-unigram", "sentencepiece-bpe"])
def test_sentencepieces_of_a_word(kind):
    tokenizer = train_tokenizer([*TEXTS, "天 气 我 们"], kind, 420, True)
    sentences = ["天 气我 们", "龘天"]
    # Space belongs to the word after it, and the bytes of one character stay together.
    words = marked(tokenizer, sentences, [["天", " ", "气我", " ", "们"], ["龘", "天"]])
    expected = ["▁天", "▁气我", "▁们", "▁<0xE9><0xBE><0x98>", "天"]
    assert ["".join(word) for word in words] == expected


@pytest.mark.parametrize("kind", ["wordpiece", "sentencepiece-unigram", "sentencepiece-bpe"])
def test_offsets_follow_the_ids(kind):
    tokenizer = train_tokenizer(TEXTS, kind, 420, True)
    generator = random.Random(1)
    alphabet = "我们北京，。 aé½ﬁ龘𠀀.-İßΣ한\u0301"
    texts = [clean_text("".join(generator.choices(alphabet, k=30))) for _ in range(200)]
    texts.insert(3, "")
    _, lengths = tokenizer.encode_batch(texts)
    offsets = tokenizer.token_offsets(texts)
    assert offsets.dtype == np.int64
    assert len(offsets) == lengths.sum()
    for text, found in zip(texts, np.split(offsets, np.cumsum(lengths)[:-1]), strict=True):
        assert np.all(np.diff(found) >= 0)
        assert all(0 <= offset < len(text) for offset in found)
    assert len(tokenizer.token_offsets([])) == 0


@pytest.mark.parametrize("lowercase", [False, True])
def test_a_piece_begins_in_the_character_at_its_offset(lowercase):
    alphabet = "我们北京，。 aé½ﬁ龘𠀀.-İßΣ한"
    generator = random.Random(2)
    texts = [clean_text("".join(generator.choices(alphabet, k=30))) for _ in range(200)]
    tokenizer = train_tokenizer(texts, "wordpiece", 300, lowercase)
    ids, lengths = tokenizer.encode_batch(texts)
    text_of = np.repeat(np.arange(len(texts)), lengths)
    offsets = tokenizer.token_offsets(texts)
    for token, number, offset in zip(ids, text_of, offsets, strict=True):
        piece = tokenizer.id_to_piece(int(token))
        character = texts[number][offset]
        if piece != "[UNK]":
            shown = "".join(split_words(character, lowercase))
            assert piece.removeprefix("##")[0].replace("ς", "σ") in shown


def test_offsets_are_those_of_the_characters():
    tokenizer = train_tokenizer(TEXTS, "wordpiece", 250, True)
    text = "我们 hello，北龘龘京 É\u0301ß3.14"
    assert [tokenizer.id_to_piece(int(i)) for i in tokenizer.encode_batch([text])[0]] == [
        "我", "们", "hello", "[UNK]", "北", "[UNK]", "[UNK]", "京", "[UNK]", ".", "14"
    ]  # fmt: skip
    assert tokenizer.token_offsets([text]).tolist() == [0, 1, 3, 8, 9, 10, 11, 12, 14, 18, 19]


def test_the_segmenter_loses_nothing_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    segment = load_segmenter("jieba")
    assert segment("我来到北京清华大学") == ["我", "来到", "北京", "清华大学"]
    generator = random.Random(0)
    for _ in range(200):
        text = clean_text("".join(generator.choices("我们北京，。 ab1.½\u200d龘𠀀\r\n😀", k=30)))
        assert "".join(segment(text)) == text
    assert not list(tmp_path.iterdir())


def test_a_corpus_knows_its_words(config, capsys):
    corpus = prepare(config)
    assert "found by jieba" in capsys.readouterr().out
    assert open_corpus(config.output, verify=True).metadata["word_segmenter"] == "jieba"
    segment = load_segmenter("jieba")
    tokenizer = load_tokenizer(config.output)
    expected = {
        sentence: [part for part in segment(sentence) if part.strip()]
        for document in _documents(150)
        for sentence in document
    }
    for name in ("train", "heldout"):
        split = corpus.split(name)
        assert split.has_words
        for shard in split.shards:
            assert shard.words.dtype == bool
            assert len(shard.words) == len(shard.tokens)
            for first, last in itertools.pairwise(shard.sentences.tolist()):
                pieces = [tokenizer.id_to_piece(int(token)) for token in shard.tokens[first:last]]
                bounds = np.flatnonzero(np.append(shard.words[first:last], True))
                words = [
                    "".join(pieces[a:b]).replace("##", "") for a, b in itertools.pairwise(bounds)
                ]
                assert words == expected["".join(words)]


def _bytes(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_interruptions_and_processes_change_nothing(config, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "CHUNK_BYTES", 2000)
    shutil.copy(config.input[0], tmp_path / "again.txt")  # every document twice
    texts = (*config.input, str(tmp_path / "again.txt"))
    config = replace(config, input=texts, max_shard_tokens=1500)
    whole = prepare(replace(config, output=tmp_path / "whole"))
    assert whole.metadata["duplicates"] >= 150
    assert len(whole.split("train").shards) > 3
    assert all(len(shard.words) == len(shard.tokens) for shard in whole.split("train").shards)
    commit = writing.CorpusWriter.commit
    commits = []

    def interrupted(writer):
        commit(writer)
        commits.append(writer)
        if len(commits) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writing.CorpusWriter, "commit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(config)
    with pytest.raises(DataError, match="word_segmenter: 'jieba' → None"):
        prepare(replace(config, word_segmenter=None))
    prepare(replace(config, processes=2))
    found, expected = _bytes(config.output), _bytes(tmp_path / "whole")
    assert found.keys() == expected.keys()
    assert all(found[name] == expected[name] for name in found if name.endswith(".npy"))
    assert whole.fingerprint == open_corpus(config.output).fingerprint


def test_without_a_segmenter_a_corpus_is_as_before(config, tmp_path):
    corpus = prepare(replace(config, word_segmenter=None))
    assert not corpus.split("train").has_words
    assert not list(config.output.glob("*.words.npy"))
    assert "word_segmenter" not in json.dumps(corpus.metadata)
    other = prepare(replace(config, output=tmp_path / "words"))
    assert other.fingerprint != corpus.fingerprint
    for one, two in zip(corpus.split("train").shards, other.split("train").shards, strict=True):
        np.testing.assert_array_equal(one.tokens, two.tokens)


@pytest.mark.parametrize("masking", ["whole_word", "span"])
def test_masks_cover_the_words_of_the_corpus(config, masking):
    corpus = prepare(config)
    tokenizer = load_tokenizer(config.output)
    words = {
        "".join(tokenizer.id_to_piece(int(token)) for token in shard.tokens[a:b])
        for shard in corpus.split("train").shards
        for a, b in itertools.pairwise(np.flatnonzero(np.append(shard.words, True)).tolist())
    }
    lengths = []
    stream = batches(
        corpus,
        # Full sentences: a truncated one could begin or end inside a word.
        DataConfig(masking=masking, pairs="full_sentences"),
        batch_size=64,
        sequence_length=64,
        max_predictions=12,
        seed=0,
    )
    for batch in itertools.islice(stream, 4):
        for positions, labels, weights in zip(
            batch["masked_positions"],
            batch["masked_labels"],
            batch["masked_weights"],
            strict=True,
        ):
            used = int(weights.sum())
            cuts = np.flatnonzero(np.diff(positions[:used]) != 1) + 1
            for run in np.split(labels[:used], cuts):
                text = "".join(tokenizer.id_to_piece(int(token)) for token in run)
                assert is_made_of(text, words)
                lengths.append(len(run))
    assert np.mean(lengths) > 2


def is_made_of(text, words):
    return not text or any(
        text.startswith(word) and is_made_of(text[len(word) :], words) for word in words
    )


def test_a_segmenter_that_is_not_there(config, monkeypatch):
    with pytest.raises(DataError, match="--word-segmenter pkuseg is unknown; give jieba"):
        prepare(replace(config, word_segmenter="pkuseg"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="jieba is not installed; type: pip install jieba"):
        prepare(config)
    assert not config.output.exists()
