"""Classes, several labels and numbers, from rows to features, answers and scores."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.errors import UserError
from bert_jax.tasks.classification.reader import TextExample
from bert_jax.tasks.classification.task import Classification
from bert_jax.tasks.registry import find_task, saved_task
from bert_jax.tasks.task import Encoding, Outputs
from commands.finetune.report import ask_command
from data_pipeline.errors import DataError
from tests.letters import LETTERS, shown

UNKNOWN = TextExample("f:9", "d", None, None)


def texts(*labels):
    return [TextExample(f"f:{n}", "ab", None, label) for n, label in enumerate(labels)]


def sets(*labels):
    return [TextExample(f"f:{n}", "ab", None, None, labels=found) for n, found in enumerate(labels)]


def values(task, examples, labels, class_weights=None):
    rows = task.features(examples, Encoding(LETTERS, 8, labels, class_weights)).rows
    return (
        [row.values["labels"].tolist() for row in rows],
        [row.values["weights"].item() for row in rows],
    )


def test_features_count_what_is_cut():
    examples = [TextExample("f:1", "abab", None, "1"), TextExample("f:2", "b", None, "0")]
    how = Encoding(LETTERS, 5, ("0", "1"), (1.0, 2.0))
    features = find_task("classify").features(examples, how)
    assert features.cut == 1
    assert [shown(row.tokens["input_ids"]) for row in features.rows] == ["^aba|", "^b|"]
    assert [row.values["labels"].item() for row in features.rows] == [1, 0]
    assert [row.values["weights"].item() for row in features.rows] == [2.0, 1.0]


def test_class_weights_reach_the_rows():
    task = find_task("classify")
    examples = [*texts("x", "y", "x"), UNKNOWN]
    assert values(task, examples, ("x", "y")) == ([0, 1, 0, 0], [1, 1, 1, 0])
    found = values(task, examples, ("x", "y"), [0.5, 2.0])
    assert found == ([0, 1, 0, 0], [0.5, 2, 0.5, 0])


def test_rows_whose_class_is_not_known_are_not_scored():
    task = find_task("classify")
    predictions = [{"label": "x"}, {"label": "y"}, {"label": "y"}]
    examples = [*texts("x", "x"), UNKNOWN]
    assert task.score(predictions, examples) == {"accuracy": 0.5}
    assert task.confusion(predictions, examples) == (["x", "x"], ["x", "y"])


def test_a_class_that_is_not_there_is_named_shortly():
    labels = tuple(f"class {n}" for n in range(5000))
    with pytest.raises(DataError) as caught:
        find_task("classify").check(texts("x" * 2000), labels)
    message = str(caught.value)
    assert message.startswith("f:0: the label 'xxx")
    assert "those of the training data: class 0, class 1, " in message
    assert len(message) < 700


def test_the_label_that_f1_is_about_must_be_there():
    assert find_task("mrpc").labels_of(texts("1", "0")) == ("0", "1")
    with pytest.raises(DataError, match=r"F1 of the label '1', which .*there are: 0.0, 1.0$"):
        find_task("mrpc").labels_of(texts("1.0", "0.0"))
    assert find_task("classify").labels_of(texts("1.0", "0.0")) == ("0.0", "1.0")


def test_the_best_score_must_be_one_of_the_scores():
    with pytest.raises(ValueError, match=r"best is 'accuracy'.*macro_f1"):
        Classification("mine", scores=("macro_f1",))
    assert Classification("mine", scores=("macro_f1",), best="macro_f1").best == "macro_f1"


def test_several_labels():
    task = find_task("multilabel")
    examples = [*sets(("x",), (), ("z", "x")), UNKNOWN]
    labels = task.labels_of(examples[:3])
    assert labels == ("x", "z")
    assert task.class_counts(examples, labels) == {"x": 2, "z": 1}
    found = values(task, examples, labels)
    assert found == ([[1, 0], [0, 0], [1, 1], [0, 0]], [1, 1, 1, 0])
    logits = [np.array(row, np.float32) for row in ([1, -1], [-1, 0], [-1, -2], [3, 3])]
    features = task.features(examples, Encoding(LETTERS, 8, labels))
    predictions = task.predict(Outputs(logits, features, examples, labels))
    assert [row["labels"] for row in predictions] == [["x"], ["z"], [], ["x", "z"]]
    assert predictions[0]["probabilities"]["x"] == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-6)
    assert [row.get("true") for row in predictions] == [["x"], [], ["z", "x"], None]
    scores = task.score(predictions, examples)  # of the first three
    assert scores["exact"] == pytest.approx(1 / 3)
    assert scores["micro_f1"] == pytest.approx(2 * 1 / (2 * 1 + 1 + 2))


def test_mistakes_with_several_labels():
    task = find_task("multilabel")
    with pytest.raises(DataError, match="f:0: the label 'q' is not among those of the training"):
        task.check(sets(("x", "q")), ("x", "y"))
    with pytest.raises(UserError, match="class_weights is balanced, but in multilabel"):
        task.features(sets(("x",)), Encoding(LETTERS, 8, ("x", "y"), [1.0, 2.0]))


def test_several_labels_have_the_divergence_of_sigmoids():
    first, second = jnp.full(2, 5.0), jnp.full(2, -5.0)
    p = 1 / (1 + np.exp(-5.0))
    expected = p * np.log(p / (1 - p)) + (1 - p) * np.log((1 - p) / p)
    assert find_task("multilabel").divergence(first, second) == pytest.approx(expected, rel=1e-5)
    assert find_task("classify").divergence(first, second) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["regress", "stsb"])
def test_numbers(name):
    task = find_task(name)
    examples = [*texts("1", "2.5", "4"), UNKNOWN]
    assert task.labels_of(examples[:3]) == ()
    task.check(examples, ())
    assert values(task, examples, ()) == ([1, 2.5, 4, 0], [1, 1, 1, 0])
    logits = [np.array([value], np.float32) for value in (2, 1, 4, 7)]
    predictions = task.predict(
        Outputs(logits, task.features(examples, Encoding(LETTERS, 8, ())), examples, ())
    )
    assert [row["value"] for row in predictions] == [2, 1, 4, 7]
    expected = np.corrcoef([1, 2.5, 4], [2, 1, 4])[0, 1]
    assert task.score(predictions, examples)["pearson"] == pytest.approx(expected)
    for label in ("many", "nan"):
        with pytest.raises(DataError, match=f"f:0: the label '{label}' is not a number"):
            task.check(texts(label), ())
    with pytest.raises(DataError, match="f:9: there is no label; training needs one"):
        task.labels_of(examples)
    with pytest.raises(DataError, match="all 2 training rows have the number 3"):
        task.labels_of(texts("3", "3.0"))


def test_submissions_of_glue():
    name, content = find_task("stsb").submission([{"value": 2.5}, {"value": 0.12345}])
    assert (name, content) == ("STS-B.tsv", "index\tprediction\n0\t2.500\n1\t0.123\n")
    name, content = find_task("rte").submission([{"label": "entailment"}])
    assert (name, content) == ("RTE.tsv", "index\tprediction\n0\tentailment\n")
    assert dataclasses.replace(find_task("stsb"), leaderboard=None).submission([]) is None


def test_a_pair_is_asked_for_as_a_pair(tmp_path):
    """The command that a model card shows must be one that works."""
    columns = {"first": None, "second": None, "label": None, "header": None, "group": None}
    task = saved_task({"task": "classify", "columns": columns | {"second": "other"}})
    assert ask_command(task, tmp_path / "a run") == (
        f"python run_predict.py classify --checkpoint '{tmp_path}/a run' TEXT SECOND"
    )
    assert task.typed(["a", "b"])[0].second == "b"
    assert find_task("mrpc").usage == "TEXT SECOND"
    assert find_task("sst2").usage == "TEXT ..."
