import numpy as np

from bert_jax.tasks.classification.features import text_features
from bert_jax.tasks.classification.reader import TextExample
from bert_jax.tasks.task import Encoding
from data_pipeline.tokenization.interface import SPECIAL_PIECES
from data_pipeline.tokenization.wordpiece import WordPiece


def test_features_count_what_is_cut():
    tokenizer = WordPiece([*SPECIAL_PIECES.values(), "a", "b"], lowercase=True)
    examples = [
        TextExample("f:1", "a b a b", None, "1"),
        TextExample("f:2", "b", None, "0"),
    ]
    features = text_features(
        examples, Encoding(tokenizer, 5), lambda e: (np.int32(e.label), 1.0 + int(e.label))
    )
    assert features.cut == 1
    assert [row.tokens["input_ids"].tolist() for row in features.rows] == [
        [2, 5, 6, 5, 3],
        [2, 6, 3],
    ]
    assert [row.values["labels"].item() for row in features.rows] == [1, 0]
    assert [row.values["weights"].item() for row in features.rows] == [2.0, 1.0]
