"""What an exported folder says of its output layer, and output folders that cannot be written."""

import dataclasses
import json

import numpy as np
import pytest
from rich.console import Console

from bert_jax.tasks.registry import find_task
from bert_jax.training.checkpoint import save_params
from commands.export import to_hugging_face
from data_pipeline.tokenization.wordpiece import WordPiece
from tests.checkpoints import PIECES, TINY, random_params


@pytest.mark.parametrize(
    ("task", "labels", "problem_type", "names"),
    [
        ("multilabel", "abc", "multi_label_classification", {"0": "a", "1": "b", "2": "c"}),
        ("stsb", "", "regression", {"0": "LABEL_0"}),
        ("mrpc", "01", None, {"0": "0", "1": "1"}),
        ("swag", "", None, {"0": "LABEL_0"}),
    ],
)
def test_the_outputs_of_a_classifier(tmp_path, task, labels, problem_type, names):
    found = find_task(task)
    params = {name: random_params()[name] for name in ("encoder", "pooler")}
    params["classifier"] = {
        "kernel": np.ones((TINY.hidden_size, len(names)), np.float32),
        "bias": np.zeros(len(names), np.float32),
    }
    saved = {
        "model": dataclasses.asdict(TINY),
        "architecture": f"Bert{found.head}" if found.head else "",
        "problem_type": found.problem_type,
        "labels": list(labels),
    }
    save_params(tmp_path, params, saved)
    WordPiece(PIECES, lowercase=True).save(tmp_path)
    to_hugging_face(tmp_path, tmp_path / "hf", Console(quiet=True))
    values = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert values["id2label"] == names
    assert values["label2id"] == {name: int(number) for number, name in names.items()}
    assert values.get("problem_type") == problem_type
    to_hugging_face(tmp_path, tmp_path / "bert", Console(quiet=True), class_name="BertModel")
    assert "id2label" not in json.loads((tmp_path / "bert" / "config.json").read_text())
