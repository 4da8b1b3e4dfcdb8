import dataclasses
import json

import numpy as np
import pytest

from bert_jax.tasks.registry import find_task
from bert_jax.tasks.task import Encoding, Outputs
from data_pipeline.errors import DataError
from data_pipeline.tokenization.wordpiece import WordPiece

PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] a b c d e ##x . 北 京 大 学".split()  # noqa: SIM905
TOKENIZER = WordPiece(PIECES, lowercase=True)


def columns(tmp_path, *sentences):
    """A file, a sentence as "word/TAG word/TAG"."""
    path = tmp_path / "f.txt"
    text = "\n\n".join(s.replace(" ", "\n").replace("/", " ") for s in sentences)
    path.write_text(text + "\n", encoding="utf-8")
    return str(path)


def perfect(features, labels, noise=0):
    """Logits of the true tags where one is to be read, and what must not matter elsewhere."""
    rows = []
    for feature in features.rows:
        one_hot = np.eye(len(labels), dtype=np.float32)[feature.tokens["labels"]]
        unread = feature.tokens["unit_starts"] == 0
        one_hot[unread] = np.eye(len(labels))[noise]
        padding = np.full((3, len(labels)), 9, np.float32)
        rows.append(np.concatenate([one_hot, padding]))
    return rows


def test_texts_whose_entities_are_not_known_are_not_scored(tmp_path):
    task = find_task("tag")
    known, other = task.read(columns(tmp_path, "a/B-PER b/O", "c/B-PER d/O")).rows
    examples = [known, dataclasses.replace(other, entities=None)]
    labels = ("O", "B-PER", "I-PER")
    features = task.features([known, other], Encoding(TOKENIZER, 8, labels))
    predictions = task.predict(Outputs(perfect(features, labels), features, examples, labels))
    assert len(predictions[1]["entities"]) == 1
    assert task.score(predictions, examples)["precision"] == 1
    assert task.confusion(predictions, examples) == (["PER", "O"], ["PER", "O"])


@pytest.mark.parametrize(
    ("name", "unit", "entities", "lost"),
    [
        ("tag", "word", {"be": [[2, 3]]}, 1),  # within a word
        ("tag", "word", {"abed": [[0, 3]], "c": [[5, 5]]}, 0),
        ("tag", "word", {"abed c": [[0, 5]]}, 0),
        ("tag", "word", {"d c": [[3, 5]]}, 1),
        ("cluener", "piece", {"ab": [[0, 1]]}, 1),  # its text is the piece [UNK]
        ("cluener", "piece", {"abed c": [[0, 5]]}, 0),
    ],
)
def test_entities_that_no_tags_say_are_counted(tmp_path, name, unit, entities, lost):
    text = "abed c"
    label = {"n": {text[a : b + 1]: [[a, b]] for [[a, b]] in entities.values()}}
    path = tmp_path / "f.json"
    path.write_text(json.dumps({"text": text, "label": label}) + "\n")
    task = find_task(name)
    examples = task.read(str(path)).rows
    labels = task.labels_of(examples)
    features = task.features(examples, Encoding(TOKENIZER, 16, labels))
    line = f"entities that begin or end within a {unit}, so tags cannot express them: {lost}"
    assert features.notes == ((f"{line}, such as {path}:1",) if lost else ())


def test_predictions_of_windows_come_together(tmp_path):
    task = find_task("tag")
    source = columns(
        tmp_path,
        "a/O bx/B-PER cx/I-PER bx/B-PER d/O " + "e/O " * 20 + "a/B-LOC",
        "c/O",
    )
    examples, skipped, note, *_ = task.read(source)
    assert (skipped, note) == ([], "tags in BIO")
    labels = task.labels_of(examples)
    assert labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    features = task.features(examples, Encoding(TOKENIZER, 8, labels))
    assert len(features.rows) > 3
    predictions = task.predict(
        Outputs(perfect(features, labels, noise=1), features, examples, labels)
    )
    assert predictions[0]["place"] == f"{source}:1"
    assert predictions[0]["words"][:5] == ["a", "bx", "cx", "bx", "d"]
    assert predictions[0]["tags"][:5] == ["O", "B-PER", "I-PER", "B-PER", "O"]
    assert predictions[0]["entities"][:2] == [
        {"type": "PER", "text": "bx cx", "start": 2, "end": 7},
        {"type": "PER", "text": "bx", "start": 8, "end": 10},
    ]
    assert predictions[0]["entities"][2]["type"] == "LOC"
    assert predictions[1] == {
        "place": f"{source}:28",
        "text": "c",
        "words": ["c"],
        "tags": ["O"],
        "entities": [],
    }
    json.dumps(predictions)
    assert task.score(predictions, examples)["f1"] == 1
    true, found = task.confusion(predictions, examples)
    assert true == found
    assert (true.count("O"), true.count("PER"), true.count("LOC")) == (23, 3, 1)
    counts = task.class_counts(examples, labels)
    assert counts == {"O": 23, "B-LOC": 1, "I-LOC": 0, "B-PER": 2, "I-PER": 1}


def test_invalid_tags_are_repaired(tmp_path):
    task = find_task("tag")
    examples = task.read(columns(tmp_path, "a/B-PER b/I-PER c/B-LOC d/O e/O"))[0]
    labels = task.labels_of(examples)
    features = task.features(examples, Encoding(TOKENIZER, 16, labels))
    said = ["I-PER", "I-LOC", "I-LOC", "O", "I-PER"]
    logits = np.zeros((7, len(labels)), np.float32)
    logits[np.arange(1, 6), [labels.index(tag) for tag in said]] = 1
    (prediction,) = task.predict(Outputs([logits], features, examples, labels))
    assert prediction["tags"] == ["B-PER", "B-LOC", "I-LOC", "O", "B-PER"]
    found = [(e["type"], e["text"]) for e in prediction["entities"]]
    assert found == [("PER", "a"), ("LOC", "b c"), ("PER", "e")]
    # None of the two true entities is among the three.
    assert task.score([prediction], examples)["f1"] == 0


def test_a_type_unseen_in_training_is_named(tmp_path):
    task = find_task("conll2003")
    source = columns(tmp_path, "a/O b/I-ORG")
    with pytest.raises(DataError, match=r"f.txt:2: the type 'ORG' is not among .*: LOC, PER"):
        task.check(task.read(source)[0], ("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))


def test_characters_of_spans(tmp_path):
    task = find_task("cluener")
    source = tmp_path / "dev.json"
    label = {"org": {"北京 大学": [[1, 5]]}, "name": {"ax": [[7, 8]]}}
    rows = [{"text": "a北京 大学 ax ", "label": label}, {"text": "大"}]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    source.write_text("".join(lines), encoding="utf-8")
    examples = task.read(str(source)).rows
    labels = ("O", "B-name", "I-name", "B-org", "I-org")
    features = task.features(examples, Encoding(TOKENIZER, 16, labels))
    predictions = task.predict(Outputs(perfect(features, labels), features, examples, labels))
    assert predictions[0]["entities"] == [
        {"type": "org", "text": "北京 大学", "start": 1, "end": 6},
        {"type": "name", "text": "ax", "start": 7, "end": 9},
    ]
    assert "words" not in predictions[0]
    assert task.score(predictions, examples)["f1"] == 1
    name, content = task.submission(predictions)
    assert name == "cluener_predict.json"
    found = [json.loads(line) for line in content.splitlines()]
    assert found == [{"id": 0, "label": label}, {"id": 1, "label": {}}]


def test_a_raw_text_is_cut_as_the_task_does():
    text = "北京 ax."
    found = {
        name: [text[slice(*span)] for span in find_task(name).typed([text])[0].words or ()]
        for name in ("conll2003", "msra", "cluener")
    }
    assert found == {
        "conll2003": ["北", "京", "ax", "."],
        "msra": ["北", "京", "a", "x", "."],
        "cluener": [],
    }
