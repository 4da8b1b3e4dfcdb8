"""Which output layers of a checkpoint a fine-tuning keeps, refuses, or starts anew."""

import numpy as np
import pytest

from bert_jax.errors import UserError
from bert_jax.interchange.names import to_tensors
from bert_jax.tasks.registry import find_task
from commands.finetune.start import warm_start
from commands.saved_model import SavedModel, open_model
from configs.finetune import FinetuneConfig
from tests.checkpoints import TINY, random_params, write_hugging_face

CLASSES = tuple(f"c{number}" for number in range(40))


def parameters(outputs):
    shared = {"dense": {"kernel": np.zeros((4, 4), np.float32)}}
    head = {"kernel": np.ones((4, outputs), np.float32), "bias": np.ones(outputs, np.float32)}
    return {"encoder": shared, "pooler": shared, "classifier": head}


def start(source, task, classes, outputs=None, config=None):
    """What a run takes of the source, and what it says."""
    said = []
    shapes = parameters(outputs or max(len(classes), 1))
    found = warm_start(
        config or FinetuneConfig(), source, find_task(task), classes, shapes, said.append
    )
    assert ("classifier/bias" in found.params) == ("classifier" not in found.fresh)
    return found, said


def ours(task, labels, outputs=None):
    saved = {
        "task": task,
        "labels": list(labels),
        "architecture": f"Bert{find_task(task).head}",
        "problem_type": find_task(task).problem_type,
    }
    return SavedModel(
        parameters(outputs or max(len(labels), 1)), TINY, None, "runs/x, step 5", saved
    )


@pytest.mark.parametrize(
    ("source", "task", "classes", "said"),
    [
        (ours("sst2", "01"), "sst2", ("0", "1"), "for sst2 (0, 1) is kept; --fresh-head starts"),
        (ours("sst2", "01"), "cola", ("0", "1"), "for sst2 (0, 1) is kept"),
        (ours("stsb", ""), "regress", (), "for stsb is kept"),
        (ours("classify", CLASSES), "classify", CLASSES, "c10, c11 ...) is kept"),
    ],
)
def test_a_fitting_output_layer_is_kept_and_named(source, task, classes, said):
    found, lines = start(source, task, classes)
    assert found.fresh == []
    assert len(lines) == 1
    assert said in lines[0]
    fresh, lines = start(source, task, classes, config=FinetuneConfig(fresh_head=True))
    assert (fresh.fresh, lines) == (["classifier"], [])


@pytest.mark.parametrize(
    ("source", "task", "classes", "words"),
    [
        (ours("stsb", ""), "swag", (), "runs/x, step 5 has an output layer for stsb, not for swag"),
        (ours("sst2", "01"), "classify", ("0", "2"), "for sst2 (0, 1), not for classify (0, 2)"),
        (ours("mnli", "012"), "sst2", ("0", "1"), "for mnli (0, 1, 2), not for sst2 (0, 1)"),
        (ours("classify", "ab"), "multilabel", ("a", "b"), "for classify (a, b), not for multilab"),
        (ours("multilabel", "ab"), "classify", ("a", "b"), "for multilabel (a, b), not for class"),
        (ours("summarize", ""), "regress", (), "for summarize, not for regress"),
    ],
)
def test_another_output_layer_is_refused(source, task, classes, words):
    with pytest.raises(UserError) as caught:
        start(source, task, classes)
    assert words in str(caught.value)
    assert "--fresh-head" in str(caught.value)
    assert start(source, task, classes, config=FinetuneConfig(fresh_head=True))[1] == []


@pytest.mark.parametrize(
    ("names", "outputs", "kept", "words"),
    [
        ({"0": "cat", "1": "dog"}, 2, True, "for BertForSequenceClassification (cat, dog) is kept"),
        ({"0": "NEGATIVE", "1": "POSITIVE"}, 2, False, "(NEGATIVE, POSITIVE), not for classify (c"),
        ({"0": "cat", "1": "dog", "2": "cow"}, 3, False, "(cat, dog, cow), not for classify (cat,"),
        ({}, 2, False, "layer for BertForSequenceClassification, not for classify (cat, dog)"),
    ],
)
def test_the_classes_of_hugging_face_are_its_own(tmp_path, names, outputs, kept, words):
    params = {name: random_params()[name] for name in ("encoder", "pooler")}
    params["classifier"] = {
        "kernel": np.ones((TINY.hidden_size, outputs), np.float32),
        "bias": np.zeros(outputs, np.float32),
    }
    write_hugging_face(
        tmp_path,
        to_tensors(params, "hugging_face", TINY),
        architectures=["BertForSequenceClassification"],
        id2label=names,
    )
    source = open_model(tmp_path)
    shapes = params | {"classifier": {"kernel": np.ones((8, 2)), "bias": np.ones(2)}}
    said = []
    arguments = (FinetuneConfig(), source, find_task("classify"), ("cat", "dog"), shapes)
    if kept:
        assert warm_start(*arguments, said.append).fresh == []
        assert words in said[0]
    else:
        with pytest.raises(UserError) as caught:
            warm_start(*arguments, said.append)
        assert words in str(caught.value)
