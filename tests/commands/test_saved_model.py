"""What is read of a saved run."""

import json

from commands.saved_model import settings_of

SETTINGS = {"no_answer_threshold": -1.5}


def test_settings_are_those_of_the_summary_and_its_step(tmp_path):
    said = []
    assert settings_of(tmp_path, 5, said.append) == {}
    (tmp_path / "summary.json").write_text(json.dumps({"step": 5, "settings": SETTINGS}))
    assert settings_of(tmp_path, 5, said.append) == SETTINGS
    assert said == []
    assert settings_of(tmp_path, 9, said.append) == SETTINGS
    assert len(said) == 1
    assert "no_answer_threshold" in said[0]
    assert "is for step 5, not for step 9" in said[0]
    (tmp_path / "summary.json").write_text(json.dumps({"step": 5}))  # of a pre-training
    assert settings_of(tmp_path, 9, said.append) == {}
    assert len(said) == 1
