"""Summaries from features to predictions, scores and baselines."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.tasks.registry import find_task
from bert_jax.tasks.task import Encoding, Outputs
from data_pipeline.finetune.features import collate
from tests.letters import LETTERS

ARTICLE = "Cats sit.\nDogs run far. Birds fly.\nFish swim."
ROWS = [
    {"article": ARTICLE, "summary": "Dogs run far.Fish swim."},
    {"article": "Cats sit."},
]
FOREIGN = {"article": "Cats sit.", "summary": "Zebras walked by."}


@pytest.fixture
def examples(tmp_path):
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return find_task("summarize").read(str(tmp_path / "d.jsonl")).rows


def logits_for(features, scores):
    """Rows of logits that give each sentence its score, in the order of the windows."""
    scores = iter(scores)
    rows = []
    for feature in features.rows:
        mask = feature.values["sentence_mask"] > 0
        row = np.full(len(mask), 99, np.float32)  # for places without a sentence
        row[mask] = [next(scores) for _ in range(mask.sum())]
        rows.append(row)
    assert next(scores, None) is None
    return rows


@pytest.mark.parametrize("length", [100, 20])  # one window, several windows
def test_as_many_sentences_as_the_probabilities_say_in_the_articles_order(examples, length):
    task = find_task("summarize")
    features = task.features(examples, Encoding(LETTERS, length, ()))
    assert (len(features.rows) > 2) == (length == 20)
    # Probabilities 0.1, 0.7, 0.2, 0.9 and so two sentences; 0.1 alone, and so one.
    odds = [0.1 / 0.9, 0.7 / 0.3, 0.2 / 0.8, 0.9 / 0.1, 0.1 / 0.9]
    logits = logits_for(features, np.log(odds))
    first, second = task.predict(Outputs(logits, features, examples, ()))
    assert first["summary"] == "Dogs run far. Fish swim."
    assert [sentence["probability"] for sentence in first["sentences"]] == [0.7, 0.9]
    for sentence in first["sentences"]:
        assert ARTICLE[sentence["start"] : sentence["end"]] == sentence["text"]
    assert first["true"] == "Dogs run far.Fish swim."
    assert second["summary"] == "Cats sit."
    assert "true" not in second
    # Only the first has a reference.
    assert task.score([first, second], examples) == {"rouge1": 1, "rouge2": 1, "rougeL": 1}


def test_a_summary_of_other_sentences_is_not_scored(tmp_path):
    """As in training and dev, so that test scores mean the same."""
    rows = [ROWS[0], FOREIGN]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = find_task("summarize")
    found = task.read(str(tmp_path / "d.jsonl"))
    assert list(found.unusable) == [1]
    features = task.features(found.rows, Encoding(LETTERS, 100, ()))
    assert [row.values["weights"].any() for row in features.rows] == [True, False]
    assert task.count_judged(found.rows, features) == 1
    predictions = [{"summary": "Dogs run far. Fish swim."}, {"summary": "Cats sit."}]
    assert task.score(predictions, found.rows)["rouge1"] == 1


def test_baselines(examples):
    found = find_task("summarize").baselines(examples)
    lead, same, own = found.values()
    # 3 of 7 and of 5 words: cats sit dogs run far birds fly against dogs run far fish swim.
    assert lead["rouge1"] == pytest.approx(2 * 3 / 12)
    assert same["rouge1"] == pytest.approx(2 * 3 / 10)
    assert own == {"rouge1": 1, "rouge2": 1, "rougeL": 1}
    assert find_task("summarize").baselines(examples[1:]) == {}


def test_the_loss_is_the_mean_over_labelled_sentences(examples):
    task = find_task("summarize")
    features = task.features(examples, Encoding(LETTERS, 100, ()))
    batch = {name: jnp.asarray(array) for name, array in collate(features.rows, 100, 3).items()}
    scores = np.array([[1, 2, -1, 0.5], [3, 9, 9, 9], [9, 9, 9, 9]], np.float32)
    total, weight = task.loss(jnp.asarray(scores), batch, 0.0)
    signs = np.array([1, -1, 1, -1])  # of the wrong side: no, yes, no, yes
    assert total == pytest.approx(np.log1p(np.exp(signs * scores[0])).sum(), rel=1e-6)
    assert weight == 4


def test_chinese_summaries_are_joined_without_spaces():
    task = find_task("summarize_zh")
    examples = task.typed(["你好。再见！"])
    features = task.features(examples, Encoding(LETTERS, 100, ()))
    (prediction,) = task.predict(Outputs(logits_for(features, [2, 2]), features, examples, ()))
    assert prediction["summary"] == "你好。再见！"
