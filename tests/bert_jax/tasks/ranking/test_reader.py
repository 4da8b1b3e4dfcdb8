"""Groups of passages, drawn responses, what is trained on, bad input."""

import json

import pytest

from bert_jax.tasks.columns import Columns
from bert_jax.tasks.ranking.reader import (
    RankingExample,
    read_passages,
    read_responses,
    typed_ranking,
)
from bert_jax.tasks.registry import find_task
from data_pipeline.errors import DataError

COLUMNS = Columns("query", "passage", group="id")
ROWS = [  # the rows of a group need not follow each other
    {"id": 7, "query": "q one", "passage": "a", "label": 0},
    {"id": 8, "query": "q two", "passage": "b", "label": 0},
    {"id": 7, "query": "q  one", "passage": "c", "label": 2},
    {"id": 8, "query": "q two", "passage": "d", "label": "0"},
    {"id": 9, "query": "q one", "passage": "e", "label": 0.5},
]


def table(folder, rows):
    path = folder / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_rows_of_a_query_are_a_group_and_one_without_a_relevant_passage_is_only_predicted(
    tmp_path,
):
    source = table(tmp_path, ROWS)
    found = read_passages(source, COLUMNS)
    expected = [
        RankingExample(f"{source}:1", ("q one",), ("a", "c"), (False, True)),
        RankingExample(f"{source}:2", ("q two",), ("b", "d"), None),
        RankingExample(f"{source}:5", ("q one",), ("e",), (True,)),
    ]
    assert found.rows == expected
    assert found.usable().rows == [expected[0], expected[2]]
    assert found.usable().skipped == [f"{source}:2: none of the 2 passages of id '8' is relevant"]


def test_without_an_id_the_text_of_the_query_is_it(tmp_path):
    rows = [row | {"query": row["query"].replace("  ", " ")} for row in ROWS]
    examples = read_passages(table(tmp_path, rows), Columns("query", "passage")).rows
    assert [example.candidates for example in examples] == [("a", "c", "e"), ("b", "d")]


def test_without_labels_all_groups_are_there(tmp_path):
    rows = [{name: row[name] for name in ("id", "query", "passage")} for row in ROWS]
    found = read_passages(table(tmp_path, rows), COLUMNS)
    examples = found.rows
    assert [(e.candidates, e.relevant) for e in examples] == [
        (("a", "c"), None),
        (("b", "d"), None),
        (("e",), None),
    ]
    assert not found.unusable
    assert "there is no column 'label'; there are: id, query, passage" in found.unlabelled
    with pytest.raises(DataError, match=r"d.jsonl:1: there is no label"):
        find_task("rerank").labels_of(examples)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "yes"}, r"d.jsonl:3: the label 'yes' is not a number; write 0 or 1"),
        ({"label": "nan"}, "is not a number"),
        ({"label": ""}, r"d.jsonl:3: its label is empty, while other rows of id '7' have one"),
        ({"passage": " "}, r"d.jsonl:3: its passage is empty"),
        ({"query": ""}, "its query is empty"),
        ({"query": "q two"}, r"d.jsonl:3: the query of id '7' is not that of .*d.jsonl:1"),
    ],
)
def test_mistakes_in_a_table_are_placed(tmp_path, change, message):
    rows = [dict(row) for row in ROWS]
    rows[2] |= change
    with pytest.raises(DataError, match=message):
        read_passages(table(tmp_path, rows), COLUMNS)


def test_missing_columns_and_nothing_to_compare_with(tmp_path):
    source = table(tmp_path, ROWS)
    with pytest.raises(DataError, match="no column 'query_id'; there are: id, query"):
        read_passages(source, Columns("query", "passage", group="query_id"))
    examples = read_passages(source, COLUMNS).rows
    with pytest.raises(DataError, match="all training rows are relevant"):
        find_task("rerank").labels_of(examples[2:])


DIALOGUES = [
    "Hello . __eou__ Hi ! __eou__ How are you ? __eou__\t1\t1 2 1",
    "One . __eou__ Two . __eou__ Hi !",
    "Alone . __eou__",
    "",
    "Three . __eou__ Four .",
]


def dialogue_file(folder, lines=DIALOGUES):
    path = folder / "d.txt"
    path.write_text("".join(line + "\n" for line in lines))
    return str(path)


def test_each_turn_after_the_first_against_turns_of_other_dialogues(tmp_path):
    source = dialogue_file(tmp_path)
    examples, skipped, *_ = read_responses(source, 3)
    turns = [
        ["Hello .", "Hi !", "How are you ?"],
        ["One .", "Two .", "Hi !"],
        ["Three .", "Four ."],
    ]
    expected = [
        (dialogue, turn) for dialogue in range(3) for turn in range(1, len(turns[dialogue]))
    ]
    assert len(examples) == len(expected)
    for example, (dialogue, turn) in zip(examples, expected, strict=True):
        right, *others = example.candidates
        assert example.query == tuple(turns[dialogue][:turn])
        assert right == turns[dialogue][turn]
        assert example.relevant == (True, False, False, False)
        elsewhere = {t for d in range(3) if d != dialogue for t in turns[d]} - {right}
        assert len(set(others)) == 3
        assert set(others) <= elsewhere
    assert [e.place for e in examples[2:]] == [
        f"{source}:2, turn 2",
        f"{source}:2, turn 3",
        f"{source}:5, turn 2",
    ]
    assert skipped == [f"{source}:3: the dialogue has one turn, so there is no response"]
    assert read_responses(source, 3)[0] == examples
    assert read_responses(source + "[:2]", 2)[0][0].query == ("Hello .",)


def test_others_are_drawn_evenly(tmp_path):
    lines = [f"q{n} __eou__ a{n}" for n in range(200)]
    examples, *_ = read_responses(dialogue_file(tmp_path, lines), 9)
    counts: dict[str, int] = {}
    for example in examples:
        for text in example.candidates[1:]:
            counts[text] = counts.get(text, 0) + 1
    # 1800 draws of 400 texts: 4.5 each, and a fixed choice would give hundreds of one.
    assert len(counts) > 370
    assert max(counts.values()) < 18


def test_mistakes_in_dialogues_are_placed(tmp_path):
    with pytest.raises(DataError, match=r"d.txt:1: its turn 2 is empty"):
        read_responses(dialogue_file(tmp_path, ["a __eou__ __eou__ b", "c __eou__ d"]), 1)
    with pytest.raises(DataError, match=r"d.txt:1, turn 2: only 1 other texts"):
        read_responses(dialogue_file(tmp_path, ["a __eou__ b", "b __eou__ d"]), 2)
    with pytest.raises(DataError, match="no line has two turns, with __eou__"):
        read_responses(dialogue_file(tmp_path, ["a", "b"]), 1)


def test_typed_ranking():
    example = typed_ranking(["Hello __eou__ Hi", "a", "b"])
    assert example.query == ("Hello", "Hi")
    assert example.candidates == ("a", "b")
    for texts in (["query"], ["", "a"], ["query", ""]):
        with pytest.raises(DataError):
            typed_ranking(texts)
