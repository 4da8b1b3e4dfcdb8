"""Files are written whole, and what cannot be read is named."""

import json

import pytest

from data_pipeline.errors import DataError
from data_pipeline.files import parse_json, read_json, read_text, write_json


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": "中"})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": "中"}


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffa\r\nb".encode())
    assert read_text(tmp_path / "a.txt") == "a\r\nb"


def test_half_of_a_surrogate_pair_is_replaced(tmp_path):
    (tmp_path / "a.json").write_text('{"\\ud83d": ["a \\uDe00 b", {"c": "\\ud83d\\ude00"}]}')
    assert read_json(tmp_path / "a.json") == {"\ufffd": ["a \ufffd b", {"c": "\U0001f600"}]}


@pytest.mark.parametrize(
    ("text", "reason"), [("{", "char 1"), ("[" * 200_000, "nested"), ("", "char 0")]
)
def test_what_is_not_json_is_named_with_the_reason(text, reason):
    with pytest.raises(DataError, match=f"^a.json:3 is not JSON .*{reason}.*; copy it again$"):
        parse_json(text, "a.json:3", "copy it again")


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.json").write_bytes(b"{\xff")
    for name, reason in (
        ("a.json", "UTF-8.*byte 1"),
        ("b.json", "No such file.*a.json"),
        (".", ""),
    ):
        with pytest.raises(DataError, match=f"{tmp_path / name}.*{reason}"):
            read_json(tmp_path / name)
