import random

import numpy as np
import pytest

from bert_jax.tasks.tagging.features import align, tagged_features
from bert_jax.tasks.tagging.reader import Entity, TaggedText, words_of
from bert_jax.tasks.task import Encoding
from data_pipeline.errors import DataError
from data_pipeline.tokenization.training import train_tokenizer
from data_pipeline.tokenization.wordpiece import WordPiece

PIECES = (  # noqa: SIM905
    "[PAD] [UNK] [CLS] [SEP] [MASK] un ##able ##s to see a cat dog 北 京 . ,"
).split()
TOKENIZER = WordPiece(PIECES, lowercase=True)
LABELS = ("O", "B-X", "I-X")


def text(content, unit="word", entities=()):
    return TaggedText("here", content, words_of(content, unit), entities)


def pieces(ids):
    return [TOKENIZER.id_to_piece(int(i)) for i in ids]


def test_a_word_begins_with_its_first_piece():
    ((ids, starts),) = align([text("Unables to  cats.")], TOKENIZER)
    assert pieces(ids) == ["un", "##able", "##s", "to", "cat", "##s", "."]
    assert starts.tolist() == [0, -1, -1, 8, 12, -1, 16]


def test_a_word_of_nothing_is_unknown():
    example = TaggedText("here", "a \u200b cat", ((0, 1), (2, 3), (4, 7)), None)
    ((ids, starts),) = align([example], TOKENIZER)
    assert pieces(ids) == ["a", "[UNK]", "cat"]
    assert starts.tolist() == [0, 2, 4]


def test_every_piece_is_a_unit_where_there_are_no_words():
    examples = [text(" 北京unables", "piece"), text("a cat"), text("dog 京", "piece")]
    (ids, starts), (_, words), (_, last) = align(examples, TOKENIZER)
    assert pieces(ids) == ["北", "京", "un", "##able", "##s"]
    assert starts.tolist() == [1, 2, 3, 5, 9]
    assert words.tolist() == [0, 2]
    assert last.tolist() == [0, 4]


def test_pieces_of_one_character_are_one_unit():
    vocabulary = [
        *PIECES,
        *"\u1112",
        *(f"##{c}" for c in "\u1161\u11ab\u1112"),
    ]  # of 한, decomposed
    ((ids, starts),) = align([text("한한 a", "piece")], WordPiece(vocabulary, lowercase=True))
    assert len(ids) == 7
    assert starts.tolist() == [0, -1, -1, 1, -1, -1, 3]


def test_a_piece_of_sentencepiece_begins_behind_its_space():
    texts = [f"the horse {i} ran to London, 北京{i}" for i in range(60)]
    tokenizer = train_tokenizer(texts, "sentencepiece-unigram", 400, True)
    content = "the  London horse ran 北京"
    ((ids, starts),) = align([text(content, "piece")], tokenizer)
    assert len(ids) == len(starts)
    begins = [start for start in starts.tolist() if start >= 0]
    assert begins == sorted(set(begins))
    assert not any(content[start].isspace() for start in begins)
    assert {0, 5, 12, 18, 22} <= set(begins)


def test_tags_sit_on_first_pieces_and_count_once():
    generator = random.Random(3)
    words = ["unables", "to", "cats", "a", ",", "see", "uns"]
    for _ in range(100):
        content = " ".join(generator.choices(words, k=generator.randint(1, 30)))
        word_spans = words_of(content, "word")
        first = generator.randrange(len(word_spans))
        end = generator.randint(first + 1, len(word_spans))
        entity = Entity("X", word_spans[first][0], word_spans[end - 1][1], "here")
        rows, cut, _ = tagged_features(
            [text(content, entities=(entity,))], Encoding(TOKENIZER, 10, LABELS, [1, 2, 3])
        )
        assert cut == 0
        found = {}
        for row in rows:
            tokens = row.tokens
            assert row.length <= 10
            assert pieces(tokens["input_ids"])[:: row.length - 1] == ["[CLS]", "[SEP]"]
            assert {name: array.dtype for name, array in tokens.items()} == {
                name: np.float32 if name == "weights" else np.int32 for name in tokens
            }
            for position in np.flatnonzero(tokens["unit_starts"]):
                start = int(tokens["unit_starts"][position]) - 1
                assert start not in found
                piece = pieces(tokens["input_ids"])[position]
                assert content[start:].startswith(piece)
                label = int(tokens["labels"][position])
                found[start] = LABELS[label]
                assert tokens["weights"][position] == [1, 2, 3][label]
            assert np.array_equal(tokens["weights"] > 0, tokens["unit_starts"] > 0)
            assert not tokens["labels"][tokens["unit_starts"] == 0].any()
        expected = ["O"] * first + ["B-X"] + ["I-X"] * (end - first - 1)
        expected += ["O"] * (len(word_spans) - end)
        assert [found[start] for start, _ in word_spans] == expected


def test_what_is_to_be_tagged_has_no_weight():
    rows, _, _ = tagged_features([text("a cat", entities=None)], Encoding(TOKENIZER, 10, LABELS))
    assert rows[0].tokens["unit_starts"].tolist() == [0, 1, 3, 0]
    assert not rows[0].tokens["weights"].any()


def test_a_window_has_room():
    with pytest.raises(DataError, match="sequence_length 7 is too short to tag in windows"):
        tagged_features([text("a")], Encoding(TOKENIZER, 7, LABELS))
