import numpy as np

from bert_jax.tasks.multiple_choice.features import choice_features
from bert_jax.tasks.multiple_choice.reader import ChoiceExample
from bert_jax.tasks.task import Encoding
from tests.letters import LETTERS, shown


def test_the_context_is_cut_in_front_and_missing_choices_are_rows_of_zeros():
    examples = [
        ChoiceExample("a", "abcdef", "?", ("xyz", "u"), 1),
        ChoiceExample("b", "ab", "", ("x", "y", "z"), None),
    ]
    features = choice_features(examples, Encoding(LETTERS, 9))
    assert features.cut == 1
    first, second = features.rows
    # Each choice keeps as much of the context as it leaves room for.
    assert [shown(row) for row in first.tokens["input_ids"]] == ["^ef|?xyz|", "^cdef|?u|", "_" * 9]
    np.testing.assert_array_equal(first.tokens["token_type_ids"][0], [0] * 4 + [1] * 5)
    assert first.tokens["attention_mask"].sum(axis=-1).tolist() == [9, 9, 0]
    assert [shown(row) for row in second.tokens["input_ids"]] == ["^ab|x|", "^ab|y|", "^ab|z|"]
    assert first.length == 9
    assert second.length == 6
    assert [(row.values["labels"], row.values["weights"]) for row in features.rows] == [
        (1, 1.0),
        (0, 0.0),
    ]


def test_a_choice_that_is_too_long_alone_loses_its_front():
    (row,) = choice_features(
        [ChoiceExample("a", "abc", "", ("uvwxyz", "u"), 0)], Encoding(LETTERS, 7)
    ).rows
    assert [shown(ids) for ids in row.tokens["input_ids"]] == ["^|wxyz|", "^abc|u|"]
