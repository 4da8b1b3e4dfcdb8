"""Ranking from features to predictions and scores."""

import dataclasses

import numpy as np
import pytest

from bert_jax.tasks.columns import ColumnOptions
from bert_jax.tasks.ranking.reader import RankingExample
from bert_jax.tasks.registry import find_task
from bert_jax.tasks.task import Encoding, Outputs
from tests.letters import LETTERS

EXAMPLES = [
    RankingExample("f:1", ("q", "r"), ("a", "b", "c"), (True, False, False)),
    RankingExample("f:2", ("q",), ("a", "b"), (False, True)),
    RankingExample("f:3", ("q",), ("a",), None),
]
LABELS = ("irrelevant", "relevant")
SCORES = [[1.0, 3.0, -2.0], [0.0, 0.0], [5.0]]


def predictions(task):
    features = task.features(EXAMPLES, Encoding(LETTERS, 12, LABELS))
    # Only the difference of the two logits counts.
    logits = [np.array([7.0, 7.0 + s], np.float32) for row in SCORES for s in row]
    return task.predict(Outputs(logits, features, EXAMPLES, LABELS))


def test_candidates_are_ordered_and_scored():
    task = find_task("rerank")
    found = predictions(task)
    assert [c["index"] for c in found[0]["ranking"]] == [1, 0, 2]
    assert found[0]["ranking"][0] == {
        "index": 1,
        "text": "b",
        "score": 3.0,
        "probability": pytest.approx(0.952574),
        "true": False,
    }
    assert found[0]["query"] == "q\nr"
    assert "true" not in found[2]["ranking"][0]
    # Ranks 2 and, of two equal scores, 2; the third is not labelled.
    assert task.score(found, EXAMPLES) == {
        "mrr": 0.5,
        "recall@1": 0.0,
        "recall@2": 1.0,
        "recall@5": 1.0,
    }


def test_training_on_responses_takes_one_other_each_and_counts_so():
    task = find_task("response_selection")
    rows = task.features(EXAMPLES[:2], Encoding(LETTERS, 12, LABELS, training=True)).rows
    assert [row.values["labels"].item() for row in rows] == [1, 0, 0, 1]
    assert len(task.features(EXAMPLES[:2], Encoding(LETTERS, 12, LABELS)).rows) == 5
    assert task.class_counts(EXAMPLES[:2], LABELS) == {"irrelevant": 2, "relevant": 2}
    counts = find_task("rerank").class_counts(EXAMPLES[:2], LABELS)
    assert counts == {"irrelevant": 3, "relevant": 2}
    three = dataclasses.replace(task, trained_others=3)
    assert len(three.features(EXAMPLES[:1], Encoding(LETTERS, 12, LABELS, training=True)).rows) == 3


def test_class_weights_reach_the_rows():
    task = find_task("rerank")
    rows = task.features(EXAMPLES, Encoding(LETTERS, 12, LABELS, [0.5, 2.0])).rows
    assert [row.values["weights"].item() for row in rows] == [2, 0.5, 0.5, 0.5, 2, 0]


def test_columns_may_be_named(tmp_path):
    (tmp_path / "d.tsv").write_text("query_id\tquestion\tpassage\tgood\n7\tq\ta\t1\n7\tq\tb\t0\n")
    task = find_task("rerank").with_columns(ColumnOptions("question", label="good"))
    ((example,), *_) = task.read(str(tmp_path / "d.tsv"))
    assert example.relevant == (True, False)
