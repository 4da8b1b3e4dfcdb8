"""Readers of multiple choice, what is cut, rows for choices that are not there, bad input."""

import json

import pytest

from bert_jax.tasks.multiple_choice.reader import (
    ChoiceExample,
    read_hellaswag,
    read_questions,
    read_swag,
    typed_choice,
)
from bert_jax.tasks.registry import find_task
from data_pipeline.errors import DataError

SWAG_HEADER = ",video-id,fold-ind,startphrase,sent1,sent2,gold-source,ending0,ending1,ending2,"
SWAG_HEADER += "ending3,label\n"


def write(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return str(path)


def test_swag_reads_its_csv_with_quotes(tmp_path):
    text = SWAG_HEADER + '0,v,1,"A, b. She","A, b.",She,gold,runs.,"sits, then.",eats.,goes.,2\n'
    (example,) = read_swag(write(tmp_path / "train.csv", text)).rows
    assert example == ChoiceExample(
        f"{tmp_path}/train.csv:2", "A, b.", "She", ("runs.", "sits, then.", "eats.", "goes."), 2
    )


def test_hellaswag_reads_labels_as_numbers_text_or_none(tmp_path):
    rows = [{"ctx": "A man", "endings": ["sits", "runs"]} | more for more in (
        {"label": 1}, {"label": "0"}, {"label": ""}, {})]  # fmt: skip
    source = write(tmp_path / "d.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    examples = read_hellaswag(source).rows
    assert [example.label for example in examples] == [1, 0, None, None]
    some = read_hellaswag(source + "[1:3]").rows
    assert [example.place for example in some] == [f"{source}:2", f"{source}:3"]
    with pytest.raises(DataError, match=r"d.jsonl:3: there is no right choice"):
        find_task("hellaswag").labels_of(examples)


def test_questions_of_c3_and_dream(tmp_path):
    value = [
        [["M: Hi.", "W: Hello."], [{"question": "Who?", "choice": ["M", "W"], "answer": "W"}], "1"],
        [["text"], [{"question": "a?", "choice": ["x", "y", "z"]},
                    {"question": "b?", "choice": ["x", "y"], "answer": "x"},
                    {"question": "c?", "choice": ["x", "y"], "answer": ""},
                    {"question": "d?", "choice": ["1", "0"], "answer": 0}], "2"],
    ]  # fmt: skip
    source = write(tmp_path / "dev.json", value)
    examples = read_questions(source).rows
    assert [example.label for example in examples] == [1, None, 0, None, 1]
    assert examples[0].context == "M: Hi. W: Hello."
    assert examples[2].place == f"{source}, element 1, question 2"
    assert read_questions(source + "[1:]").rows == examples[1:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 2}, r"d.jsonl:2: the label 2 is not the number of a choice, 0 to 1"),
        ({"label": -1}, "the label -1 is not"),
        ({"label": True}, "the label True is not"),
        ({"label": "²"}, "is not the number of a choice"),
        ({"endings": ["a", " "]}, r"d.jsonl:2: choice 1 is empty"),
        ({"endings": ["a"]}, "must be a list of at least two"),
        ({"endings": "a, b"}, "must be a list"),
        ({"endings": ["a", None]}, r"d.jsonl:2: its endings must hold text, not null"),
        ({"ctx": "\u200b"}, r"d.jsonl:2: its ctx is empty"),
        ({"ctx": None}, "its ctx is empty"),
    ],
)
def test_mistakes_in_a_table_are_placed(tmp_path, change, message):
    row = {"ctx": "A man", "endings": ["sits", "runs"], "label": 1}
    lines = json.dumps(row) + "\n" + json.dumps(row | change) + "\n"
    with pytest.raises(DataError, match=message):
        read_hellaswag(write(tmp_path / "d.jsonl", lines))


def test_a_missing_column_names_those_that_are_there(tmp_path):
    source = write(tmp_path / "d.jsonl", '{"context": "a", "endings": ["b", "c"]}\n')
    with pytest.raises(DataError, match="no column 'ctx'; there are: context, endings"):
        read_hellaswag(source)


QUESTION = {"question": "Who?", "choice": ["M", "W"], "answer": "W"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": 1}, "is not a JSON array"),
        ([["text"]], "element 0 is not of the form"),
        ([[["text"], [QUESTION], "1"], 3], "element 1 is not of the form"),
        ([["text", [QUESTION], "1"]], "element 0 is not of the form"),
        ([[["text"], [{"question": "Who?"}], "1"]], "not of the form"),
        ([[[" "], [QUESTION], "1"]], "element 0: its text is empty"),
        ([[["t"], [QUESTION | {"answer": "X"}], "1"]], "question 1: the answer 'X' is not among"),
        ([[["t"], [QUESTION | {"choice": ["W", ""]}], "1"]], "choice 1 is empty"),
        ([[["t"], [QUESTION, QUESTION | {"question": ""}], "1"]], "question 2: its question is em"),
    ],
)
def test_mistakes_in_questions_are_placed(tmp_path, value, message):
    with pytest.raises(DataError, match=message):
        read_questions(write(tmp_path / "c3.json", value))


def test_typed_choices():
    for texts in (["context", "a", "b"], ("context", "a", "b")):
        assert typed_choice(texts).choices == ("a", "b")
    for texts in (["context", "a"], ["context", "a", " "], ["", "a", "b"]):
        with pytest.raises(DataError):
            typed_choice(texts)
