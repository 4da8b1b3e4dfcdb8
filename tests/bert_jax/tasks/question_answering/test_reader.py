"""Reading questions: SQuAD's form, slices of it, rows of tables, and what can be wrong in them."""

import copy
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from bert_jax.tasks.question_answering.reader import (
    Answer,
    QuestionExample,
    Span,
    answer_span,
    read_questions,
)
from data_pipeline.errors import DataError

CONTEXT = "Ada met Bob. Bob left."


def _article(number, **question):
    record = {
        "id": f"q{number}",
        "question": "Who?",
        "answers": [{"text": "Ada", "answer_start": 0}],
    }
    return {"paragraphs": [{"context": CONTEXT, "qas": [record | question]}]}


def _write(path, articles):
    path.write_text(json.dumps({"version": "1.1", "data": articles}), encoding="utf-8")
    return str(path)


def _example(*answers, context=CONTEXT):
    return QuestionExample("f.json, question x", "x", "Who?", context, answers)


def test_a_file_is_read(tmp_path):
    articles = [
        _article(0),
        _article(1, answers=[{"text": "Bob", "answer_start": 8, "n_matches": 2}]),
        _article(2, answers=[], is_impossible=True),
        _article(3, plausible_answers=[{"text": "Bob", "answer_start": 8}], answers=[]),
    ]
    del (unknown := _article(4))["paragraphs"][0]["qas"][0]["answers"]
    source = _write(tmp_path / "squad.json", [*articles, unknown, _article(5, answers=None)])
    found = read_questions(source).rows
    assert found[0] == QuestionExample(
        f"{source}, question q0", "q0", "Who?", CONTEXT, (Answer("Ada", 0),)
    )
    unsure = (Answer("Bob", 8, False),)
    assert [example.answers for example in found[1:]] == [unsure, (), (), None, None]
    assert [example.id for example in found if example.is_impossible] == ["q2"]


def test_a_byte_order_mark_and_numbers_as_ids_are_fine(tmp_path):
    source = _write(tmp_path / "a.json", [_article(0, id=7)])
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a.json").read_bytes())
    assert read_questions(source).rows[0].id == "7"


@pytest.mark.parametrize("bounds", [":2", "2:", "-2:", ":-1", "1:3", ":", "0:1"])
def test_a_slice_of_the_articles(tmp_path, bounds):
    articles = [_article(number) for number in range(5)]
    source = _write(tmp_path / "squad[x].json", articles)
    first, last = (int(number) if number else None for number in bounds.split(":"))
    found = [example.id for example in read_questions(f"{source}[{bounds}]").rows]
    assert found == [f"q{number}" for number in range(5)][first:last]


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ("[3]", r"cannot be read .*; for some of its rows write FILE\[FROM:TO\]"),
        ("[a:b]", r"cannot be read .*; for some of its rows write FILE\[FROM:TO\]"),
        ("[::2]", r"cannot be read .*; for some of its rows write FILE\[FROM:TO\]"),
        ("[1.5:]", r"cannot be read .*; for some of its rows write FILE\[FROM:TO\]"),
        ("[5:]", "holds no article; there are 2"),
    ],
)
def test_slices_that_choose_nothing(tmp_path, bounds, message):
    source = _write(tmp_path / "squad.json", [_article(0), _article(1)])
    with pytest.raises(DataError, match=message):
        read_questions(source + bounds)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda question: question.update(id=None), "article 1, paragraph 0: a question has no id"),
        (lambda question: question.update(id="q0"), "question q0 occurs twice"),
        (lambda question: question.update(question=" "), "question q1: its question is empty"),
        (
            lambda question: question.update(question=5),
            "q1: its 'question' must be a text, not '5'",
        ),
        (lambda question: question.update(answers="Ada"), "q1: its 'answers' must be a list"),
        (lambda question: question["answers"][0].update(text=" "), "q1 has an empty answer; leave"),
        (
            lambda question: question.update(is_impossible="false"),
            "q1: its 'is_impossible' is 'false', not true or false",
        ),
        (
            lambda question: question.update(is_impossible=True),
            "q1 has answers, such as 'Ada', though its 'is_impossible' is true",
        ),
        (lambda question: question.update(answers=["Ada"]), "q1: its 'text' must be a text"),
        (
            lambda question: question["answers"][0].pop("answer_start"),
            "'answer_start' must be a number",
        ),
    ],
)
def test_mistakes_are_named(tmp_path, change, message):
    articles = [_article(0), copy.deepcopy(_article(1))]
    change(articles[1]["paragraphs"][0]["qas"][0])
    with pytest.raises(DataError, match=message):
        read_questions(_write(tmp_path / "squad.json", articles))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "is not in SQuAD's form"),
        ('{"data": 3}', "is not in SQuAD's form"),
        ("{", "is not JSON"),
        ('{"data": [4]}', "article 0: its 'paragraphs' must be a list"),
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', "paragraph 0: its 'context' must be a text"),
        ('{"data": [{"paragraphs": [{"context": "x", "qas": [1]}]}]}', "has no id"),
        (
            '{"data": [{"paragraphs": [{"context": " ", "qas": [{"id": "a", "question": "b"}]}]}]}',
            "question a: its context is empty",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_questions(str(tmp_path / "a.json"))


def test_rows_of_a_table(tmp_path):
    row = {"id": "r", "question": "Who?", "context": CONTEXT}
    rows = [
        row | {"answers": {"text": ["Ada", "Bob"], "answer_start": [0, 8]}},
        row | {"id": "s", "answers": {"text": [], "answer_start": []}},
        row | {"id": "t"},
    ]
    path = tmp_path / "squad.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = read_questions(str(path)).rows
    answers = [example.answers for example in found]
    assert answers == [(Answer("Ada", 0), Answer("Bob", 8)), (), None]
    assert found[1].place == f"{path}:2, question s"

    path.write_text(json.dumps({"id": "r", "question": "Who?"}), encoding="utf-8")
    with pytest.raises(DataError, match="no column 'context'; there are: id, question"):
        read_questions(str(path))
    path.write_text(json.dumps(rows[0] | {"answers": {"text": ["x"], "answer_start": []}}))
    with pytest.raises(DataError, match=r"squad.jsonl:1, question r: its answers have 1 texts"):
        read_questions(str(path))
    for text, start in (("x", None), (None, 0), ("x", "0")):
        path.write_text(
            json.dumps(rows[0] | {"answers": {"text": [text], "answer_start": [start]}})
        )
        with pytest.raises(DataError, match=r"question r: its '(text|answer_start)' must be a"):
            read_questions(str(path))


def test_tensorflow_datasets(monkeypatch):
    """SQuAD as that library gives it: bytes, and arrays within a dictionary."""
    record = {
        "id": b"r",
        "question": "Qui ça?".encode(),
        "context": CONTEXT.encode(),
        "answers": {
            "text": np.array([b"Ada", b"Bob"], object),
            "answer_start": np.array([0, 8], np.int32),
        },
        "is_impossible": np.bool_(False),
    }
    features = dict.fromkeys(record)
    builder = SimpleNamespace(
        info=SimpleNamespace(splits={}, features=features),
        download_and_prepare=lambda: None,
        as_dataset=lambda split: [record] if split == "train[:1]" else [],
    )
    library = SimpleNamespace(builder=lambda name, data_dir: builder, as_numpy=iter)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", library)
    (found,) = read_questions("tfds:squad/v2.0/train[:1]").rows
    answers = (Answer("Ada", 0), Answer("Bob", 8))
    assert found == QuestionExample(found.place, "r", "Qui ça?", CONTEXT, answers)


def test_the_answer_to_learn_from_fits_its_context():
    fits, elsewhere, nowhere = Answer("Bob", 13), Answer("left", 3), Answer("Eve", 2)
    unsure = Answer("Ada", 0, certain=False)
    assert answer_span(_example(fits, elsewhere)) == Span(13, 16, moved=False)
    assert answer_span(_example(nowhere, elsewhere, fits)) == Span(13, 16, moved=False)
    assert answer_span(_example(nowhere, elsewhere)) == Span(17, 21, moved=True)
    assert answer_span(_example(Answer("left", -1))) == Span(17, 21, moved=True)
    assert answer_span(_example(unsure, fits)) == Span(13, 16, moved=False)
    assert answer_span(_example(unsure)) is None
    assert answer_span(_example()) is None


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer("Bob", 3), "question x: the answer 'Bob' is not at character 3 .* where ' me' is"),
        (Answer("Eve", -1), "question x: the answer 'Eve' is not at character -1"),
        (Answer("Eve", 999), "question x: the answer 'Eve' is not at character 999"),
    ],
)
def test_answers_that_fit_nowhere_or_at_several_places_are_refused(answer, message):
    with pytest.raises(DataError, match=message):
        answer_span(_example(answer))
