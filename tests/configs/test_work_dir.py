"""What a work folder tells of the run in it."""

import json

import pytest

from bert_jax.errors import UserError
from configs.work_dir import FINETUNING_FIELDS, check_same_run, first_start_of

CONFIG = {"seed": 0, "loop": {"save_every": 8}}


@pytest.mark.parametrize(
    ("change", "found"),
    [({}, 5.0), ({"seed": 1}, None), ({"loop": {"save_every": 9}}, 5.0)],
)
def test_the_first_start_is_that_of_the_same_run(tmp_path, change, found):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"first_start": 5.0}))
    assert first_start_of(tmp_path, CONFIG | change) == found


def test_places_count_for_pretraining_alone(tmp_path):
    """There "data" holds how examples are made, and a checkpoint has no fingerprint."""
    old = {"init_from": "a", "data": "b", "dev_fingerprint": "c"}
    check_same_run(tmp_path, old, old | {"init_from": "x", "data": "y"}, FINETUNING_FIELDS)
    with pytest.raises(UserError, match=r"\(init_from: a -> x; data: b -> y\)"):
        check_same_run(tmp_path, old, old | {"init_from": "x", "data": "y"})
    with pytest.raises(UserError, match=r"\(other dev data\)"):
        check_same_run(tmp_path, old, old | {"dev_fingerprint": "d"}, FINETUNING_FIELDS)


@pytest.mark.parametrize("text", [None, "{", "{}"])
def test_no_first_start_where_there_is_no_run(tmp_path, text):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    assert first_start_of(tmp_path, CONFIG) is None
