import numpy as np
import pytest

from bert_jax.tasks.relations.features import relation_features
from bert_jax.tasks.relations.reader import RelationExample, marked_entities
from bert_jax.tasks.task import Encoding
from data_pipeline.errors import DataError
from data_pipeline.tokenization.wordpiece import WordPiece

PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] $ # a b c d e f g h ##x .".split()  # noqa: SIM905
TOKENIZER = WordPiece(PIECES, lowercase=True)
LABELS = ("Cause-Effect(e1,e2)", "Other")


def features(marked, max_length=32, tokenizer=TOKENIZER, label="Other"):
    text, spans = marked_entities(marked, "here")
    example = RelationExample("here", text, None, label, "1", spans, "here")
    return relation_features([example], Encoding(tokenizer, max_length, LABELS, [2, 3]))


def found(marked, max_length=32):
    (row,), cut, _ = features(marked, max_length)
    ids = row.tokens["input_ids"]
    pieces = [TOKENIZER.id_to_piece(int(i)) for i in ids]
    at = [pieces[position] for position in row.values["entity_positions"]]
    assert at == ["$", "#"]
    # The first of both marks, so what they mark follows.
    first, second = row.values["entity_positions"]
    assert "$" not in pieces[:first]
    assert "#" not in pieces[:second]
    assert row.length <= max_length
    return " ".join(pieces), cut


def test_marks_stand_around_the_entities():
    assert found("a <e1>b c</e1> d <e2>e</e2>.") == ("[CLS] a $ b c $ d # e # . [SEP]", 0)
    assert found("<e2>a</e2> <e1>b</e1>") == ("[CLS] # a # $ b $ [SEP]", 0)
    assert found("<e1>ax</e1>x <e2>\u200b</e2>") == ("[CLS] $ a ##x $ [UNK] # [UNK] # [SEP]", 0)


def test_what_is_nearest_to_the_entities_is_kept():
    long = " ".join("abcdefgh")
    assert found(f"{long} <e1>a</e1> b <e2>c</e2> {long}", 16) == (
        "[CLS] e f g h $ a $ b # c # a b c [SEP]",
        1,
    )
    assert found(f"h <e1>a</e1> {long} <e2>c</e2> h", 16) == (
        "[CLS] $ a $ a b c d e f g h # c # [SEP]",
        1,
    )
    assert found(f"h <e1>a</e1> {long} {long} <e2>c</e2> h", 16) == (
        "[CLS] $ a $ a b c d e f g h # c # [SEP]",
        1,
    )
    assert found(f"h <e1>{long} {long}</e1> h <e2>c</e2> h", 16) == (
        "[CLS] $ a b c d e f g h a $ # c # [SEP]",
        1,
    )


def test_values():
    (row,), _, _ = features("<e1>a</e1> <e2>b</e2>")
    assert (row.values["labels"], row.values["weights"]) == (1, 3)
    assert {name: array.dtype for name, array in row.values.items()} == {
        "labels": np.int32,
        "weights": np.float32,
        "entity_positions": np.int32,
    }
    (row,), _, _ = features("<e1>a</e1> <e2>b</e2>", label=None)
    assert row.values["weights"] == 0


def test_what_cannot_be_marked_is_refused():
    with pytest.raises(DataError, match="sequence_length 15 has no room for two entities"):
        features("<e1>a</e1> <e2>b</e2>", max_length=15)
    tokenizer = WordPiece([piece for piece in PIECES if piece != "#"], lowercase=True)
    with pytest.raises(DataError, match=r"the vocabulary lacks '\$' or '#'"):
        features("<e1>a</e1> <e2>b</e2>", tokenizer=tokenizer)
