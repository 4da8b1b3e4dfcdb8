"""What a work folder tells of the run in it."""

import json

import pytest

from bert_jax.errors import UserError
from commands.same_run import (
    MAY_DIFFER_IN_FINETUNING,
    OtherRunError,
    check_same_run,
    check_seeds_dir,
    differences,
    earlier_config,
    first_start_of,
)
from configs.recipes import RECIPES

CONFIG = {"seed": 0, "loop": {"save_every": 8}}


@pytest.mark.parametrize(
    ("change", "found"),
    [({}, 5.0), ({"seed": 1}, None), ({"loop": {"save_every": 9}}, 5.0)],
)
def test_the_first_start_is_that_of_the_same_run(tmp_path, change, found):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"first_start": 5.0}))
    assert first_start_of(tmp_path, CONFIG | change) == found


def test_only_a_folder_of_a_run_is_worked_in(tmp_path):
    path = tmp_path / "config.json"
    assert earlier_config(tmp_path / "new") == {}
    path.write_text(json.dumps(CONFIG | {"first_start": 5.0}))
    assert earlier_config(tmp_path) == {}  # nothing was saved
    path.rename(tmp_path / "config.json.tmp")
    assert earlier_config(tmp_path) == {}  # killed while it wrote its first file
    (tmp_path / "config.json.tmp").rename(path)
    (tmp_path / "checkpoints/7").mkdir(parents=True)
    (tmp_path / "checkpoints/7/_CHECKPOINT_METADATA").touch()
    assert earlier_config(tmp_path)["first_start"] == 5.0
    for text, message in (
        ('{"model_type": "bert"}', "not the work fol"),
        ("{", "config.json is not JSON .*give another --work-dir"),
        ("[1]", "config.json holds no JSON object; give another --work-dir"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            earlier_config(tmp_path)


def test_seeds_share_a_folder_with_nothing_else(tmp_path):
    record = tmp_path / "export.json"
    check_seeds_dir(tmp_path / "new", record)
    for name in ("seed-0", "seed-12", "seeds.json", ".hidden"):
        (tmp_path / name).mkdir()
    check_seeds_dir(tmp_path, record)
    exported = tmp_path / "for/transformers"
    exported.mkdir(parents=True)
    with pytest.raises(UserError, match="holds for; give another --work-dir"):
        check_seeds_dir(tmp_path, record)
    record.write_text(json.dumps({"folder": str(exported)}))
    check_seeds_dir(tmp_path, record)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="several seeds, because it holds checkpoints; give"):
        check_seeds_dir(tmp_path, record)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is not a folder; give another"):
        check_seeds_dir(tmp_path / "file", record)


def test_a_run_of_the_other_kind_is_named(tmp_path):
    with pytest.raises(OtherRunError, match="holds a pre-training, not a fine-tuning; give anoth"):
        check_same_run(tmp_path, {"phases": []}, {"task": "sst2"}, MAY_DIFFER_IN_FINETUNING)


def test_places_count_for_pretraining_alone(tmp_path):
    """There "data" holds how examples are made, and a checkpoint has no fingerprint."""
    old = {"init_from": "a", "data": "b", "dev_fingerprint": "c"}
    check_same_run(tmp_path, old, old | {"init_from": "x", "data": "y"}, MAY_DIFFER_IN_FINETUNING)
    with pytest.raises(UserError, match=r"\(init_from: a -> x; data: b -> y\)"):
        check_same_run(tmp_path, old, old | {"init_from": "x", "data": "y"})
    with pytest.raises(UserError, match=r"\(other dev data\)"):
        check_same_run(tmp_path, old, old | {"dev_fingerprint": "d"}, MAY_DIFFER_IN_FINETUNING)


@pytest.mark.parametrize("model", [[1], None, "bert"])
def test_a_damaged_model_is_another_one(tmp_path, model):
    (tmp_path / "config.json").write_text(json.dumps({"first_start": 5.0, "model": model}))
    assert first_start_of(tmp_path, CONFIG) is None
    (tmp_path / "checkpoints/7").mkdir(parents=True)
    (tmp_path / "checkpoints/7/_CHECKPOINT_METADATA").touch()
    run = RECIPES["base"]().resolved()
    with pytest.raises(OtherRunError, match="model"):
        check_same_run(tmp_path, earlier_config(tmp_path), run)


@pytest.mark.parametrize("text", [None, "{", "{}"])
def test_no_first_start_where_there_is_no_run(tmp_path, text):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    assert first_start_of(tmp_path, CONFIG) is None


def test_differences_name_fields_and_leave_out_what_may_change():
    config = RECIPES["base"]().resolved()
    other = RECIPES["base"]().resolved()
    other["loop"]["save_every"] = 1
    other["corpus"] = "moved"
    assert differences(config, other) == []
    other["phases"][1]["steps"] = 5
    other["phases"].append({"steps": 1})
    assert differences(config, other)[0].startswith("phases: ")


@pytest.mark.parametrize("recipe", ["demo", "base"])
def test_a_run_from_before_models_named_their_architecture_is_continued(tmp_path, recipe):
    saved = RECIPES[recipe]().resolved()
    assert saved["model"].pop("model_type") == "bert"
    (tmp_path / "config.json").write_text(json.dumps(saved | {"first_start": 5.0}))
    (tmp_path / "checkpoints/7").mkdir(parents=True)
    (tmp_path / "checkpoints/7/_CHECKPOINT_METADATA").touch()
    now = RECIPES[recipe]().resolved()
    check_same_run(tmp_path, earlier_config(tmp_path), now)
    assert first_start_of(tmp_path, now) == 5.0
    now["model"]["model_type"] = "other"
    with pytest.raises(OtherRunError, match="model_type: bert -> other"):
        check_same_run(tmp_path, earlier_config(tmp_path), now)
