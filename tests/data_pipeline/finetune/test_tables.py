"""Tables: what is read, and what is rejected with its place."""

import json
import math
import re

import pytest

from data_pipeline.errors import DataError
from data_pipeline.finetune.tables import plain_text, read_rows, split_source


def table(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def values(source, **settings):
    return [row.values for row in read_rows(source, **settings)]


def test_tabs_leave_quotes_alone(tmp_path):
    source = table(tmp_path, "a.tsv", '\ufefftext\tlabel\r\n"so\t1\r\n\r\nit\'s "\t0\r\n')
    assert values(source) == [{"text": '"so', "label": "1"}, {"text": "it's \"", "label": "0"}]
    assert [row.place for row in read_rows(source)] == [f"{source}:2", f"{source}:4"]


def test_tables_without_a_header(tmp_path):
    source = table(tmp_path, "a.txt", "a b\tx\nc\ty")
    assert values(source, header=("text", "label")) == [
        {"text": "a b", "label": "x"},
        {"text": "c", "label": "y"},
    ]


def test_a_header_is_recognised_by_one_of_the_names(tmp_path):
    source = table(tmp_path, "a.tsv", "index\ttext\n0\ta b\n1\ttext\n")
    expected = [{"index": "0", "text": "a b"}, {"index": "1", "text": "text"}]
    assert values(source, header=("text", "label", "more")) == expected
    with pytest.raises(DataError, match=r"a.tsv:1 has 2 columns, not the 1 of this task \(words\)"):
        values(source, header=("words",))


def test_a_given_header_with_a_name_twice(tmp_path):
    source = table(tmp_path, "a.tsv", "a\tb\tx\n")
    with pytest.raises(DataError, match=r"columns.header names a column twice: text, text, label"):
        values(source, header=("text", "text", "label"))


def test_a_long_field_of_a_csv(tmp_path):
    source = table(tmp_path, "a.csv", f'text,label\n"{"a" * 140_000}",x\n')
    assert len(values(source)[0]["text"]) == 140_000


def test_half_of_a_surrogate_pair_is_replaced(tmp_path):
    line = '{"\\ud83d": ["a \\uDe00 b", {"c": "\\ud83d\\ude00"}], "d": 1}'
    expected = {"\ufffd": ["a \ufffd b", {"c": "\U0001f600"}], "d": 1}
    assert values(table(tmp_path, "a.jsonl", line + "\n")) == [expected]
    assert values(table(tmp_path, "a.json", f"[{line}]")) == [expected]


def test_csv_is_quoted(tmp_path):
    source = table(tmp_path, "a.csv", 'text,label\n"a, ""b""\nc",1\nd,2\n')
    rows = read_rows(source)
    assert [row.values for row in rows] == [
        {"text": 'a, "b"\nc', "label": "1"},
        {"text": "d", "label": "2"},
    ]
    assert [row.place for row in rows] == [f"{source}:2", f"{source}:4"]  # where each begins


def test_ends_of_names_in_capitals(tmp_path):
    assert values(table(tmp_path, "a.CSV", "text,label\na,1\n")) == [{"text": "a", "label": "1"}]
    assert values(table(tmp_path, "a.JSONL", '{"text": "a"}\n')) == [{"text": "a"}]


def test_what_json_has_for_a_text():
    for value, text in (("a", "a"), (1, "1"), (1.5, "1.5"), (True, "True")):
        assert plain_text(value, "f:1", "label") == text
    for value, shown in ((None, "null"), ([1], "[1]"), ({"水": 1}, '{"水": 1}'), (math.nan, "NaN")):
        with pytest.raises(DataError, match=re.escape(f"f:1: its x must hold text, not {shown}")):
            plain_text(value, "f:1", "x")


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_json_lines(tmp_path, name):
    rows = [{"text": "\u2028 一", "label": 1}, {"text": "b", "label": 2}]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert values(table(tmp_path, name, lines)) == rows


def test_a_json_array(tmp_path):
    source = table(tmp_path, "a.json", ' [\n{"text": "a"},\n{"text": "b"}]')
    assert values(source) == [{"text": "a"}, {"text": "b"}]
    assert read_rows(source)[1].place == f"{source}, element 1"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.tsv", "text\tlabel\na\n", ["a.tsv:2 has 1 column, not", "text, label"]),
        ("a.tsv", "text\ttext\na\tb\n", ["a.tsv:1", "twice"]),
        ("a.csv", 'text\n"a\n', ["not CSV"]),
        ("a.jsonl", '{"a": 1}\n{"a": \n', ["a.jsonl:2 is not JSON"]),
        ("a.jsonl", "[1]", ["element 0 is not a JSON object", "'1'"]),
        ("a.tsv", b"text\n\xff\n", ["not UTF-8", "byte 5"]),
        ("a.jsonl", '{"a": 1}\n' + "[" * 200_000, ["a.jsonl:2 is not JSON", "nested too deeply"]),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, content, words):
    source = table(tmp_path, name, content)
    with pytest.raises(DataError) as caught:
        read_rows(source)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_missing_column_names_those_that_there_are(tmp_path):
    row = read_rows(table(tmp_path, "a.tsv", "text\tlabel\na\t1\n"))[0]
    with pytest.raises(DataError, match=r"a\.tsv:2: there is no column 'sentence'.*text, label"):
        row["sentence"]


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"/nowhere/a.tsv cannot be read .*there is no folder /no"):
        read_rows("/nowhere/a.tsv")
    with pytest.raises(DataError, match=r"cannot be read .*; name a file in it"):
        read_rows(str(tmp_path))
    with pytest.raises(DataError, match=r"/nowhere.tsv cannot be read \(No such file"):
        read_rows("/nowhere.tsv")


def test_a_data_set_without_a_split():
    with pytest.raises(DataError, match=r"tfds:squad .*/SPLIT"):
        read_rows("tfds:squad")


TABLES = {
    "d.tsv": "n\tm\n" + "".join(f"{n}\t-\n" for n in range(6)),
    "d.csv": "n,m\n" + "".join(f"{n},-\n" for n in range(6)),
    "d.jsonl": "".join(f'{{"n": "{n}"}}\n' for n in range(6)),
    "d.json": "[" + ",".join(f'{{"n": "{n}"}}' for n in range(6)) + "]",
}


@pytest.mark.parametrize("name", TABLES)
def test_some_rows_of_a_table_keep_their_places(tmp_path, name):
    source = str(tmp_path / name)
    (tmp_path / name).write_text(TABLES[name])
    every = read_rows(source)
    assert [row["n"] for row in every] == list("012345")
    for part in (":2", "2:", "-2:", ":-4", "1:3", "9:", ":", "4:2"):
        chosen = eval(f"every[{part}]", {"every": every})
        assert read_rows(f"{source}[{part}]") == chosen


def test_only_a_slice_at_the_end_is_one():
    for source in ("a[1:2].tsv", "a.tsv[1]", "a.tsv[::2]", "a.tsv[b:]", "a.tsv[1:2", "[1:2]"):
        assert split_source(source) == (source, slice(None))
    with pytest.raises(DataError, match="cannot be read"):
        read_rows("nowhere.tsv[::2]")
