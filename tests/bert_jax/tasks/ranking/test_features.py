from bert_jax.tasks.ranking.features import ranking_features
from bert_jax.tasks.ranking.reader import RankingExample
from bert_jax.tasks.task import Encoding
from data_pipeline.finetune.features import context_inputs, pair_inputs
from tests.letters import LETTERS, shown

EXAMPLE = RankingExample("x", ("ab", "cd"), ("x", "yy", "zzzzzz"), (True, False, False))


def test_features_of_a_dialogue_keep_its_end():
    features = ranking_features(
        [EXAMPLE], Encoding(LETTERS, 9, class_weights=(0.5, 2.0)), None, context_inputs
    )
    assert [shown(row.tokens["input_ids"]) for row in features.rows] == [
        "^ab|cd|x|",
        "^b|cd|yy|",
        "^|zzzzzz|",
    ]
    assert [row.values["labels"].item() for row in features.rows] == [1, 0, 0]
    assert [row.values["weights"].item() for row in features.rows] == [2.0, 0.5, 0.5]
    assert features.cut == 1  # one example, though two of its candidates


def test_features_of_a_passage_keep_its_beginning():
    example = RankingExample("x", ("ab",), ("uvwxyz",), None)
    (row,) = ranking_features([example], Encoding(LETTERS, 9), None, pair_inputs).rows
    assert shown(row.tokens["input_ids"]) == "^ab|uvwx|"
    assert row.values["weights"] == 0


def test_training_takes_so_many_others_for_each_relevant_one():
    both = RankingExample("y", ("a",), tuple("uvwxyz"), (False, True, False, False, True, False))
    features = ranking_features([EXAMPLE, both], Encoding(LETTERS, 9), 1, context_inputs)
    assert [row.example for row in features.rows] == [0, 0, 1, 1, 1, 1]
    assert [shown(row.tokens["input_ids"])[-2] for row in features.rows[2:]] == list("uvwy")
