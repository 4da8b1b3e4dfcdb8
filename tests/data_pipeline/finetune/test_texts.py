"""Examples of texts and pairs."""

import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.finetune.texts import (
    Columns,
    TextExample,
    labels_of,
    read_texts,
    split_labels,
    text_features,
)
from data_pipeline.tokenizer import SPECIAL_PIECES, WordPiece


def example(label, text="a"):
    return TextExample("file:1", text, None, label)


def test_rows_become_examples_and_those_without_agreement_are_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"sentence1": "a", "sentence2": " b\\u0000 ", "label": "x"}\n'
        '{"sentence1": "c", "sentence2": "d", "label": "-"}\n'
        '{"sentence1": "e", "sentence2": "f", "label": null}\n'
    )
    columns = Columns("sentence1", "sentence2", unlabelled=("-", ""))
    examples, skipped = read_texts(str(path), columns)
    assert examples == [TextExample(f"{path}:1", "a", "b", "x")]
    assert [line.split(":")[1] for line in skipped] == ["2", "3"]


def test_a_file_without_labels_is_one_to_predict(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("text\na\n")
    assert read_texts(str(path), Columns())[0] == [TextExample(f"{path}:2", "a", None, None)]


def test_an_empty_text_is_refused(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("text\tlabel\n \t1\n")
    with pytest.raises(DataError, match=r"a\.tsv:2: its text is empty"):
        read_texts(str(path), Columns())


def test_labels_are_sorted_by_value_or_name():
    assert labels_of([example("10"), example("9"), example("-1")]) == ("-1", "9", "10")
    assert labels_of([example("b"), example("a"), example("b")]) == ("a", "b")
    several = [example("x, y"), example(""), example("y,a")]
    assert labels_of(several, multi_label=True) == ("a", "x", "y")
    assert split_labels(" a,, b ") == ["a", "b"]


def test_one_class_only_and_a_missing_label_are_refused():
    with pytest.raises(DataError, match="all 2 training rows have the label 'x'"):
        labels_of([example("x"), example("x")])
    with pytest.raises(DataError, match="file:1: there is no label"):
        labels_of([example("x"), example(None)])


def test_features_count_what_is_cut():
    tokenizer = WordPiece([*SPECIAL_PIECES.values(), "a", "b"], lowercase=True)
    examples = [example("1", "a b a b"), example("0", "b")]
    features = text_features(
        examples, tokenizer, 5, lambda e: np.int32(e.label), lambda e: 1.0 + int(e.label)
    )
    assert features.cut == 1
    assert [row.tokens["input_ids"].tolist() for row in features.rows] == [
        [2, 5, 6, 5, 3],
        [2, 6, 3],
    ]
    assert [row.values["labels"].item() for row in features.rows] == [1, 0]
    assert [row.values["weights"].item() for row in features.rows] == [2.0, 1.0]
