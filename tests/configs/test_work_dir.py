"""What a work folder tells of the run in it."""

import json

import pytest

from configs.work_dir import first_start_of

CONFIG = {"seed": 0, "loop": {"save_every": 8}}


@pytest.mark.parametrize(
    ("change", "found"),
    [({}, 5.0), ({"seed": 1}, None), ({"loop": {"save_every": 9}}, 5.0)],
)
def test_the_first_start_is_that_of_the_same_run(tmp_path, change, found):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"first_start": 5.0}))
    assert first_start_of(tmp_path, CONFIG | change) == found


@pytest.mark.parametrize("text", [None, "{", "{}"])
def test_no_first_start_where_there_is_no_run(tmp_path, text):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    assert first_start_of(tmp_path, CONFIG) is None
