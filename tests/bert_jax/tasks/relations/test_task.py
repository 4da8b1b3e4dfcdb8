import dataclasses
import json

import numpy as np
import pytest

from bert_jax.tasks.registry import find_task
from bert_jax.tasks.task import Encoding, Outputs
from data_pipeline.errors import DataError
from data_pipeline.tokenization.wordpiece import WordPiece

PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] $ # a b c".split()  # noqa: SIM905
TOKENIZER = WordPiece(PIECES, lowercase=True)

FILE = """7\t"a <e1>b</e1> <e2>c</e2>"
Cause-Effect(e1,e2)
Comment:

8\t"<e2>a</e2> b <e1>c</e1>"
Other
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "f.txt"
    path.write_text(FILE, encoding="utf-8")
    return str(path)


def test_predictions_name_entities_and_relations(source):
    task = find_task("semeval2010")
    examples = task.read(source).rows
    labels = task.labels_of(examples)
    assert len(labels) == 19
    features = task.features(examples, Encoding(TOKENIZER, 16, labels))
    numbers = [int(row.values["labels"]) for row in features.rows]
    logits = 5 * np.eye(19, dtype=np.float32)[numbers]
    predictions = task.predict(Outputs(list(logits), features, examples, labels))
    json.dumps(predictions)
    assert predictions[1]["text"] == "a b c"
    assert predictions[1]["e1"] == {"text": "c", "start": 4, "end": 5}
    assert predictions[1]["e2"] == {"text": "a", "start": 0, "end": 1}
    assert predictions[1]["probability"] == predictions[1]["probabilities"]["Other"] > 0.8
    assert task.score(predictions, examples) == {"macro_f1": 1, "accuracy": 1}
    name, content = task.submission(predictions)
    assert name == "proposed_answers.txt"
    assert content == "7\tCause-Effect(e1,e2)\n8\tOther\n"


def test_sentences_whose_relation_is_not_known_are_not_scored(source):
    task = find_task("relate")
    first, second = task.read(source).rows
    examples = [first, dataclasses.replace(second, label=None)]
    predictions = [{"label": first.label}, {"label": first.label}]
    assert task.score(predictions, examples) == {"macro_f1": 1, "accuracy": 1}
    assert task.confusion(predictions, examples) == ([first.label], [first.label])


def test_relations_of_ones_own_are_those_of_the_training_data(source):
    task = find_task("relate")
    examples = task.read(source).rows
    assert task.labels_of(examples) == ("Cause-Effect(e1,e2)", "Other")
    with pytest.raises(DataError, match=r"f.txt:2: the relation 'Cause-Effect\(e1,e2\)' is not am"):
        task.check(examples, ("Other", "Cause-Effect(e2,e1)"))


def test_a_sentence_to_predict():
    example = find_task("relate").typed(["a <e1>b</e1> <e2>c</e2>"])[0]
    assert (example.first, example.spans, example.label) == ("a b c", ((2, 3), (4, 5)), None)
