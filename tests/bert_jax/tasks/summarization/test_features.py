from bert_jax.tasks.summarization.features import summary_features
from bert_jax.tasks.summarization.reader import Sentence, SummaryExample
from bert_jax.tasks.task import Encoding
from tests.letters import LETTERS, shown


def example(*texts, chosen=None):
    return SummaryExample("x", tuple(Sentence(text, 0, 1) for text in texts), chosen, None)


def test_features_have_a_cls_for_each_sentence():
    features = summary_features(
        [example("ab", "c", "de", chosen=(False, True, True)), example("abcdefghijk")],
        Encoding(LETTERS, 10),
    )
    first, second, third = features.rows
    assert shown(first.tokens["input_ids"]) == "^ab|^c|"
    assert first.tokens["token_type_ids"].tolist() == [0] * 4 + [1] * 3
    assert shown(second.tokens["input_ids"]) == "^c|^de|"
    assert second.tokens["token_type_ids"].tolist() == [0] * 3 + [1] * 4
    assert shown(third.tokens["input_ids"]) == "^abcdefgh|"
    assert features.cut == 1
    values = [{k: v.tolist() for k, v in row.values.items()} for row in features.rows]
    assert values == [
        {"cls_positions": [0, 4], "sentence_mask": [1, 1], "labels": [0, 1], "weights": [1, 1]},
        {"cls_positions": [3, 0], "sentence_mask": [1, 0], "labels": [1, 0], "weights": [1, 0]},
        {"cls_positions": [0, 0], "sentence_mask": [1, 0], "labels": [0, 0], "weights": [0, 0]},
    ]
