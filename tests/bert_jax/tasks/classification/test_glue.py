"""The tasks of GLUE under the names that TensorFlow Datasets gives their data."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds

from bert_jax.tasks.classification.glue import TASKS
from bert_jax.tasks.registry import find_task
from bert_jax.tasks.task import resolve
from data_pipeline.errors import DataError
from data_pipeline.finetune.tables import read_rows

CONFIGS = {config.name: config for config in tfds.builder_cls("glue").BUILDER_CONFIGS}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_columns_and_labels_are_those_of_the_catalogue(task):
    config = CONFIGS[task.name]
    columns = task.columns.renamed(task.in_datasets.columns)
    assert [name for name in (columns.first, columns.second) if name] == list(config.text_features)
    assert columns.label == "label"
    if config.label_classes:
        known = task.in_datasets.labels or task.labels
        assert known == tuple(config.label_classes)


def data_set(monkeypatch, name, splits, classes):
    """Puts a data set into TensorFlow Datasets; `classes` are the names of a column's numbers."""
    features = dict.fromkeys(next(iter(splits.values()))[0])
    features |= {
        column: SimpleNamespace(int2str=names.__getitem__) for column, names in classes.items()
    }
    builder = SimpleNamespace(
        info=SimpleNamespace(features=features, splits=splits),
        download_and_prepare=lambda: None,
        as_dataset=lambda split: [
            row
            for part in (splits if split == "all" else re.split(r"\s*\+\s*", split))
            for row in splits[part]
        ],
    )
    monkeypatch.setattr(tfds, "builder", lambda asked, data_dir: {name: builder}[asked])
    monkeypatch.setattr(tfds, "as_numpy", iter)


def test_its_rows_are_those_of_the_files(monkeypatch, tmp_path):
    records = [
        {"idx": 0, "sentence1": b"A cat.", "sentence2": b"Cats.", "label": np.int64(1)},
        {"idx": 1, "sentence1": b"A dog.", "sentence2": b"Cats.", "label": np.int64(0)},
        {"idx": 2, "sentence1": b"A cow.", "sentence2": b"Cats.", "label": np.int64(-1)},
    ]
    # Records are stored by a hash; the files' order is that of idx.
    splits = {"train": records[1::-1], "validation": records[:1], "test": records[2:]}
    data_set(monkeypatch, "glue/mrpc", splits, {"label": ["not_equivalent", "equivalent"]})
    table = tmp_path / "train.tsv"
    table.write_text("Quality\t#1 String\t#2 String\n1\tA cat.\tCats.\n0\tA dog.\tCats.\n")
    task = find_task("mrpc")

    def rows(source):
        return [(row.first, row.second, row.label) for row in task.read(source).rows]

    assert rows(resolve(task, "train", "glue/mrpc", "")) == rows(str(table))
    assert rows(resolve(task, "dev", "glue/mrpc", "")) == rows(str(table))[:1]
    assert rows("tfds:glue/mrpc/test") == [("A cow.", "Cats.", None)]
    task.check(task.read("tfds:glue/mrpc/test").rows, ("0", "1"))
    assert read_rows("tfds:glue/mrpc/test")[0]["label"] is None
    assert len(read_rows("tfds:glue/mrpc/train + test")) == 3
    assert len(read_rows("tfds:glue/mrpc/all")) == 4
    with pytest.raises(DataError, match="has the splits train, validation, test, not 'dev'"):
        read_rows("tfds:glue/mrpc/dev")


def test_numbers_that_are_not_known(monkeypatch):
    records = [
        {"sentence1": b"a", "sentence2": b"b", "label": np.float32(label)} for label in (2.5, -1)
    ]
    data_set(monkeypatch, "glue/stsb", {"test": records}, {})
    found = find_task("stsb").read("tfds:glue/stsb/test")
    assert [row.label for row in found.rows] == ["2.5", None]
    assert len(found.usable().rows) == 1


def test_lists_of_classes(monkeypatch):
    records = [{"text": b"a", "label": np.array([1, 0])}, {"text": b"b", "label": np.array([1])}]
    data_set(monkeypatch, "mine", {"train": records}, {"label": ["x", "y, z"]})
    rows = find_task("multilabel").read("tfds:mine/train").rows
    assert [row.labels for row in rows] == [("y, z", "x"), ("y, z",)]


def test_the_files_of_cola(tmp_path):
    source = tmp_path / "a.tsv"
    source.write_text("gj04\t1\t\tIt rains.\ngj04\t0\t*\tRains it.\n")
    rows = find_task("cola").read(str(source)).rows
    assert [(row.first, row.label) for row in rows] == [("It rains.", "1"), ("Rains it.", "0")]
    source.write_text("index\tsentence\n0\tIt rains.\n")
    (row,) = find_task("cola").read(str(source)).rows
    assert (row.first, row.label) == ("It rains.", None)


def test_damaged_rows_of_qqp_are_left_out(tmp_path):
    names = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    rows = "1\t1\t2\ta\tb\t1\n2\t3\tc\n3\t4\t5\td\t\t0\n4\t6\t7\te\tf\t0\t1\n"
    (tmp_path / "a.tsv").write_text(names + rows)
    found = find_task("qqp").read(f"{tmp_path}/a.tsv")
    # Each has its answer in a file for the leaderboard, in its place.
    texts = [("a", "b"), ("", ""), ("d", ""), ("e", "f")]
    assert [(row.first, row.second) for row in found.rows] == texts
    assert [row.label for row in found.rows] == ["1", None, None, None]
    assert len(found.usable().rows) == 1
    assert [line.split("a.tsv:")[1] for line in found.usable().skipped] == [
        "3 has 3 columns, not the 6 of its header "
        "(id, qid1, qid2, question1, question2, is_duplicate)",
        "4: its question2 is empty",
        "5 has 7 columns, not the 6 of its header "
        "(id, qid1, qid2, question1, question2, is_duplicate)",
    ]


def test_labels_that_are_not_the_tasks(tmp_path):
    (tmp_path / "a.tsv").write_text("sentence1\tsentence2\tlabel\na\tb\t0\nc\td\t1\n")
    task = find_task("rte")
    rows = task.read(f"{tmp_path}/a.tsv").rows
    with pytest.raises(DataError, match="'0' is not among those of the task rte: entailment, not"):
        task.check(rows, task.labels_of(rows))


def test_a_name_is_taken_for_a_data_set_only_where_there_is_one(tmp_path):
    mnli = find_task("mnli")
    assert resolve(mnli, "dev", "glue/mnli", "") == "tfds:glue/mnli/validation_matched"
    assert resolve(mnli, "dev", "tfds:glue/mnli", "") == "tfds:glue/mnli/validation_matched"
    assert resolve(mnli, "dev", "glue/mnli", "mine.tsv") == "mine.tsv"
    assert resolve(mnli, "train", "gleu/mnli", "") == "gleu/mnli/train.tsv"
    (tmp_path / "glue").mkdir()
    assert resolve(mnli, "train", str(tmp_path / "glue"), "") == str(tmp_path / "glue/train.tsv")
