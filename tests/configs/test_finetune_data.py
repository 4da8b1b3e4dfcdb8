"""The data of a fine-tuning: what is said, and what is refused before any work."""

import pytest

from bert_jax.errors import UserError
from configs.finetune import FinetuneConfig
from configs.finetune_data import load_data
from configs.tasks.registry import find_task
from data_pipeline.errors import DataError
from data_pipeline.finetune.texts import ColumnOptions
from tests.data_pipeline.finetune.letters import LETTERS

TABLE = "text\tlabel\na b\t{}\nc\t{}\nd\t{}\n"
LABELS = {"classify": ("x", "y", "x"), "regress": (1, 2, 3), "multilabel": ("x", "", "x,y")}


def load(folder, task="classify", train=None, dev=None, test=None, columns=None, **settings):
    """(data, what was said) of tables with these contents."""
    files = {}
    for name, content in (("train", train), ("dev", dev), ("test", test)):
        if content is not None:
            path = folder / f"{name}.{'jsonl' if content.startswith('{') else 'tsv'}"
            path.write_text(content)
            files[name] = str(path)
    options = ColumnOptions(**columns or {})
    config = FinetuneConfig(task, columns=options, sequence_length=16, **files, **settings)
    said: list[str] = []
    return load_data(config.find_task(), config, LETTERS, said.append), said


@pytest.mark.parametrize("task", LABELS)
def test_a_dev_file_without_labels_is_refused(tmp_path, task):
    train = TABLE.format(*LABELS[task])
    with pytest.raises(UserError, match=r"dev.tsv:2: there is no column 'label'.*text, lable.*dev"):
        load(tmp_path, task, train, train.replace("label", "lable"))
    with pytest.raises(UserError, match=r"dev.tsv: no row has a label \(--dev needs labels\)"):
        load(tmp_path, task, train, TABLE.format("", "", ""))
    data, _ = load(tmp_path, task, train, train, TABLE.format("", "", ""))
    for split in (data.dev, data.test):
        assert find_task(task).is_labelled(split.examples, split.features) == (split is data.dev)


def test_a_test_file_without_labels_is_said_to_be_only_predicted(tmp_path):
    table = TABLE.format("x", "y", "x")
    _, said = load(tmp_path, train=table, dev=table, test=TABLE.format("", "", ""))
    assert "no row has a label; predicted, not scored" in "\n".join(said)
    _, said = load(tmp_path, train=table, dev=table, test=table.replace("label", "lable"))
    assert "there is no column 'label'" in "\n".join(said)
    _, said = load(tmp_path, train=table, dev=table, test=table)
    assert "predicted, not scored" not in "\n".join(said)


def test_a_wrong_label_column_is_named_in_training(tmp_path):
    table = TABLE.format("x", "y", "x")
    with pytest.raises(UserError, match=r"train.tsv:2: there is no column 'lable'.*text, label"):
        load(tmp_path, train=table, dev=table, columns={"label": "lable"})


def test_other_kinds_of_tasks_need_labels_in_dev_too(tmp_path):
    row = '{"ctx": "a", "endings": ["b", "c"]%s}\n'
    (tmp_path / "hellaswag_train.jsonl").write_text(row % ', "label": 1')
    (tmp_path / "hellaswag_val.jsonl").write_text(row % "")
    config = FinetuneConfig("hellaswag", data=str(tmp_path), sequence_length=16)
    words = r"val.jsonl: none of its examples can be scored \(--dev needs labels"
    with pytest.raises(UserError, match=words):
        load_data(config.find_task(), config, LETTERS, print)


def test_rows_that_cannot_be_learned_from_are_only_predicted(tmp_path):
    lines = [
        f'{{"sentence1": "a", "sentence2": "b", "label": "{label}"}}\n'
        for label in ("neutral", "-", "entailment")
    ]
    data, said = load(tmp_path, "ocnli", *["".join(lines)] * 3)
    assert [len(split.examples) for split in (data.train, data.dev, data.test)] == [2, 2, 3]
    weights = [row.values["weights"].item() for row in data.test.features.rows]
    assert weights == [1, 0, 1]
    assert [line for line in said if "left out" in line] == [
        f"{tmp_path}/{name}.jsonl: 1 left out" for name in ("train", "dev")
    ]


def test_class_weights_are_one_over_the_frequency(tmp_path):
    table = TABLE.format("x", "y", "x")
    data, _ = load(tmp_path, train=table, dev=table, class_weights="balanced")
    weights = [row.values["weights"].item() for row in data.train.features.rows]
    assert weights == pytest.approx([0.75, 1.5, 0.75])  # their mean is 1
    assert [row.values["weights"].item() for row in data.dev.features.rows] == [1, 1, 1]
    table = TABLE.format("x", "y", "x,y")
    with pytest.raises(UserError, match="class_weights is balanced, but in multilabel"):
        load(tmp_path, "multilabel", table, table, class_weights="balanced")
    table = TABLE.format(1, 2, 3)
    with pytest.raises(UserError, match="regress has no classes"):
        load(tmp_path, "regress", table, table, class_weights="balanced")


def test_a_row_without_a_label_is_refused_in_training_alone(tmp_path):
    table, partly = TABLE.format("x", "y", "x"), TABLE.format("x", "", "y")
    with pytest.raises(DataError, match=r"train.tsv:3: there is no label; training needs one"):
        load(tmp_path, train=partly, dev=table)
    data, _ = load(tmp_path, train=table, dev=partly)
    assert [row.values["weights"].item() for row in data.dev.features.rows] == [1, 0, 1]
