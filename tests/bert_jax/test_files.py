"""JSON files of others, and what is no JSON."""

import pytest

from bert_jax.errors import UserError
from bert_jax.files import read_json


def test_an_object_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": [1]}')
    assert read_json(path) == {"a": [1]}


@pytest.mark.parametrize("text", [None, "{", "[1]", "[" * 100_000])
def test_anything_else_is_refused_by_its_name(tmp_path, text):
    path = tmp_path / "a.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=str(path)):
        read_json(path, "do this")
