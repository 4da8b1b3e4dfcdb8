"""Examples of texts and pairs."""

import pytest

from bert_jax.tasks.classification.reader import (
    TextExample,
    read_texts,
    split_labels,
)
from bert_jax.tasks.columns import Columns
from bert_jax.tasks.registry import find_task
from data_pipeline.errors import DataError


def example(label, text="a"):
    return TextExample("file:1", text, None, label)


def written(tmp_path, content, name="a.tsv"):
    path = tmp_path / name
    path.write_text(content)
    return str(path)


def test_rows_become_examples_and_those_without_agreement_are_only_predicted(tmp_path):
    source = written(
        tmp_path,
        '{"sentence1": "a", "sentence2": " b\\u0000 ", "label": "x"}\n'
        '{"sentence1": "c", "sentence2": "d", "label": "-"}\n'
        '{"sentence1": "e", "sentence2": "f", "label": null}\n',
        "a.jsonl",
    )
    found = read_texts(source, Columns("sentence1", "sentence2", unlabelled=("-", "")))
    assert found.rows == [
        TextExample(f"{source}:1", "a", "b", "x"),
        TextExample(f"{source}:2", "c", "d", None),
        TextExample(f"{source}:3", "e", "f", None),
    ]
    assert not found.skipped
    assert found.usable().rows == found.rows[:1]
    assert [line.split(":")[1] for line in found.usable().skipped] == ["2", "3"]


def test_a_file_without_labels_is_one_to_predict(tmp_path):
    source = written(tmp_path, "text\na\n")
    found = read_texts(source, Columns())
    assert found.rows == found.usable().rows == [TextExample(f"{source}:2", "a", None, None)]
    assert found.unlabelled == f"{source}:2: there is no column 'label'; there are: text"


@pytest.mark.parametrize("several", [False, True])
def test_so_is_one_whose_labels_are_empty(tmp_path, several):
    source = written(tmp_path, "text\tlabel\na\t\nb\t\n")
    found = read_texts(source, Columns(), several)
    assert [(row.label, row.labels) for row in found.rows] == [(None, None)] * 2
    assert found.unlabelled == f"{source}: no row has a value in its column 'label'"


def test_an_empty_label_is_not_known_and_an_empty_set_is(tmp_path):
    source = written(tmp_path, "text\tlabel\na\t\nb\tx, y\n")
    assert [row.label for row in read_texts(source, Columns()).rows] == [None, "x, y"]
    assert [row.labels for row in read_texts(source, Columns(), True).rows] == [(), ("x", "y")]
    source = written(
        tmp_path, '{"text": "a", "label": null}\n{"text": "b", "label": 3}\n', "a.json"
    )
    assert [row.label for row in read_texts(source, Columns()).rows] == [None, "3"]
    assert [row.labels for row in read_texts(source, Columns(), True).rows] == [None, ("3",)]
    assert not read_texts(source, Columns()).unlabelled


def test_labels_in_an_array_may_have_commas(tmp_path):
    line = '{"text": "a", "label": ["x, y", "z"]}\n{"text": "b", "label": []}\n'
    source = written(tmp_path, line, "a.jsonl")
    assert [row.labels for row in read_texts(source, Columns(), True).rows] == [("x, y", "z"), ()]
    with pytest.raises(DataError, match=r"a.jsonl:1: its label is a list.*multilabel"):
        read_texts(source, Columns())


def test_a_list_of_texts_is_one_text(tmp_path):
    source = written(tmp_path, '{"text": ["水", "a b"]}\n', "a.jsonl")
    assert read_texts(source, Columns()).rows[0].first == "水 a b"
    source = written(tmp_path, '{"text": [["a"]]}\n', "a.jsonl")
    with pytest.raises(DataError, match=r"a.jsonl:1: its text must hold text, not"):
        read_texts(source, Columns())


@pytest.mark.parametrize(
    ("label", "several", "message"),
    [
        ('{"q": 1}', False, r"its label must hold text, not {\"q\": 1}"),
        ("NaN", False, "its label must hold text, not NaN"),
        ('{"q": 1}', True, r"its label must hold text, not {\"q\": 1}"),
        ('["x", null]', True, "its label must hold text, not null"),
        ('["x", " "]', True, r"its label holds an empty name, in \['x', ' '\]"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path, label, several, message):
    source = written(tmp_path, f'{{"text": "a", "label": {label}}}\n', "a.jsonl")
    with pytest.raises(DataError, match=f"a.jsonl:1: {message}"):
        read_texts(source, Columns(), several)


def test_damaged_rows_are_only_predicted(tmp_path):
    source = written(tmp_path, "q\tp\tlabel\na\tb\t1\na\nc\t\t0\n\td\t0\n")
    found = read_texts(source, Columns("q", "p", damaged=True))
    texts = [("a", "b"), ("a", ""), ("c", ""), ("", "d")]
    assert [(row.first, row.second) for row in found.rows] == texts
    assert [row.label for row in found.rows] == ["1", None, None, None]
    assert list(found.unusable.values()) == [
        f"{source}:3 has 1 column, not the 3 of its header (q, p, label)",
        f"{source}:4: its p is empty",
        f"{source}:5: its q is empty",
    ]
    with pytest.raises(DataError, match=r"a.tsv:3 has 1 column, not"):
        read_texts(source, Columns("q", "p"))


def test_an_empty_text_is_refused(tmp_path):
    for content in ("text\tlabel\n \t1\n", "text\n\na\n\n"):
        with pytest.raises(DataError, match=r"a\.tsv:2: its text is empty"):
            read_texts(written(tmp_path, content), Columns())
    with pytest.raises(DataError, match=r"a\.csv:3: its text is empty"):
        read_texts(written(tmp_path, "text\na\n\nb\n", "a.csv"), Columns())


def test_spaces_around_a_label_are_not_part_of_it(tmp_path):
    source = written(tmp_path, "text,label\na,x\nb, x \nc,  \n", "a.csv")
    assert [row.label for row in read_texts(source, Columns()).rows] == ["x", "x", None]
    source = written(tmp_path, '{"text": "a", "label": [" x", "y "]}\n', "a.jsonl")
    assert read_texts(source, Columns(), several=True).rows[0].labels == ("x", "y")


def test_labels_are_sorted_by_value_or_name():
    task = find_task("classify")
    assert task.labels_of([example("10"), example("9"), example("-1")]) == ("-1", "9", "10")
    assert task.labels_of([example("b"), example("a"), example("b")]) == ("a", "b")
    several = [
        TextExample("file:1", "a", None, None, labels=labels)
        for labels in (("x", "y"), (), ("y", "a"))
    ]
    assert find_task("multilabel").labels_of(several) == ("a", "x", "y")
    assert split_labels(" a,, b ") == ("a", "b")


def test_one_class_only_and_a_missing_label_are_refused():
    labels_of, label_sets_of = (find_task(name).labels_of for name in ("classify", "multilabel"))
    with pytest.raises(DataError, match="all 2 training rows have the label 'x'"):
        labels_of([example("x"), example("x")])
    with pytest.raises(DataError, match="file:1: there is no label"):
        labels_of([example("x"), example(None)])
    with pytest.raises(DataError, match="file:1: there is no label"):
        label_sets_of([example("x")])
    with pytest.raises(DataError, match="no training row has a label"):
        label_sets_of([TextExample("file:1", "a", None, None, labels=())])
    same = [TextExample("file:1", "a", None, None, labels=("x", "y"))] * 3
    with pytest.raises(DataError, match="all 3 training rows have the same labels, x, y"):
        label_sets_of(same)
