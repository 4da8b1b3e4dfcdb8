"""Multiple choice from features to predictions and scores."""

import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.models.task_heads import ABSENT
from bert_jax.tasks.multiple_choice.reader import ChoiceExample
from bert_jax.tasks.multiple_choice.task import TASKS
from bert_jax.tasks.registry import find_task
from bert_jax.tasks.task import Encoding, Outputs
from data_pipeline.errors import DataError
from data_pipeline.finetune.features import collate
from tests.letters import LETTERS

EXAMPLES = [
    ChoiceExample("f:1", "abc", "", ("x", "y", "z"), 2),
    ChoiceExample("f:2", "ab", "who", ("x", "y"), 0),
    ChoiceExample("f:3", "ab", "", ("x", "x"), None),
]
LOGITS = np.array([[0, 1, 2], [0, 1, ABSENT], [1, 1, ABSENT]], np.float32)


def test_predictions_and_accuracy():
    task = find_task("c3")
    features = task.features(EXAMPLES, Encoding(LETTERS, 12, ()))
    predictions = task.predict(Outputs(list(LOGITS), features, EXAMPLES, ()))
    assert [p["index"] for p in predictions] == [2, 1, 0]
    first, second, third = predictions
    assert first["choice"] == "z"
    assert first["choices"][2] == {"text": "z", "probability": pytest.approx(0.665241)}
    assert second["question"] == "who"
    assert second["true"] == 0
    assert [c["text"] for c in second["choices"]] == ["x", "y"]
    assert sum(c["probability"] for c in second["choices"]) == pytest.approx(1)
    assert "true" not in third
    # The third has no label, so it is not counted.
    assert task.score(predictions, EXAMPLES) == {"accuracy": 0.5}


def test_the_loss_leaves_out_missing_choices_labels_and_rows_that_fill_up():
    task = find_task("dream")
    features = task.features(EXAMPLES, Encoding(LETTERS, 12, ()))
    batch = {name: jnp.asarray(array) for name, array in collate(features.rows, 12, 4).items()}
    logits = jnp.asarray(np.vstack([LOGITS, [[ABSENT] * 3]]))
    total, weight = task.loss(logits, batch, 0.0)
    first = np.log(np.exp([0, 1, 2]).sum()) - 2
    second = np.log(np.exp([0, 1]).sum()) - 0
    assert total == pytest.approx(first + second, rel=1e-6)
    assert weight == 2
    # A tenth of the target is spread over three choices, then over two.
    smoothed = np.log(np.exp([0, 1, 2]).sum()) - (0.9 * 2 + 0.1 * (0 + 1 + 2) / 3)
    smoothed += np.log(np.exp([0, 1]).sum()) - (0.9 * 0 + 0.1 * (0 + 1) / 2)
    assert task.loss(logits, batch, 0.1)[0] == pytest.approx(smoothed, rel=1e-6)


def test_the_submission_of_c3():
    name, content = find_task("c3").submission([{"index": 2}, {"index": 0}])
    assert name == "c311_predict.json"
    assert content == '{"id": 0, "label": 2}\n{"id": 1, "label": 0}\n'
    assert find_task("dream").submission([{"index": 2}]) is None


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_training_needs_labels(task):
    assert task.labels_of(EXAMPLES[:2]) == ()
    with pytest.raises(DataError, match="f:3: there is no right choice"):
        task.labels_of(EXAMPLES)
    (typed,) = task.typed(["abc", "x", "y"])
    assert typed.choices == ("x", "y")
