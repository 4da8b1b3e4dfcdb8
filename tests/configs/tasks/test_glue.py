"""The tasks of GLUE under the names that TensorFlow Datasets gives their data."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds

from configs.tasks.glue import GLUE
from configs.tasks.registry import find_task
from configs.tasks.task import resolve

CONFIGS = {config.name: config for config in tfds.builder_cls("glue").BUILDER_CONFIGS}


@pytest.mark.parametrize("task", GLUE, ids=lambda task: task.name)
def test_columns_and_labels_are_those_of_the_catalogue(task):
    config = CONFIGS[task.name]
    columns = task.columns.renamed(task.in_datasets.columns)
    assert [name for name in (columns.first, columns.second) if name] == list(config.text_features)
    assert columns.label == "label"
    if config.label_classes:
        known = task.in_datasets.labels or task.labels
        assert known == tuple(config.label_classes)


def test_its_rows_are_those_of_the_files(monkeypatch, tmp_path):
    names = ["not_equivalent", "equivalent"]
    records = [
        {"idx": 0, "sentence1": b"A cat.", "sentence2": b"Cats.", "label": np.int64(1)},
        {"idx": 1, "sentence1": b"A dog.", "sentence2": b"Cats.", "label": np.int64(0)},
    ]
    features = dict.fromkeys(records[0]) | {"label": SimpleNamespace(int2str=names.__getitem__)}
    splits = {"train": records, "validation": records[:1]}
    builder = SimpleNamespace(
        info=SimpleNamespace(features=features),
        download_and_prepare=lambda: None,
        as_dataset=lambda split: splits[split],
    )
    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: {"glue/mrpc": builder}[name])
    monkeypatch.setattr(tfds, "as_numpy", iter)
    table = tmp_path / "train.tsv"
    table.write_text("Quality\t#1 String\t#2 String\n1\tA cat.\tCats.\n0\tA dog.\tCats.\n")
    task = find_task("mrpc")

    def rows(source):
        return [(row.first, row.second, row.label) for row in task.read(source).rows]

    assert rows(resolve(task, "train", "glue/mrpc", "")) == rows(str(table))
    assert rows(resolve(task, "dev", "glue/mrpc", "")) == rows(str(table))[:1]


def test_a_name_is_taken_for_a_data_set_only_where_there_is_one(tmp_path):
    mnli = find_task("mnli")
    assert resolve(mnli, "dev", "glue/mnli", "") == "tfds:glue/mnli/validation_matched"
    assert resolve(mnli, "dev", "tfds:glue/mnli", "") == "tfds:glue/mnli/validation_matched"
    assert resolve(mnli, "dev", "glue/mnli", "mine.tsv") == "mine.tsv"
    assert resolve(mnli, "train", "gleu/mnli", "") == "gleu/mnli/train.tsv"
    (tmp_path / "glue").mkdir()
    assert resolve(mnli, "train", str(tmp_path / "glue"), "") == str(tmp_path / "glue/train.tsv")
