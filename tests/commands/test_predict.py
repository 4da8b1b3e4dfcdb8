"""What a prediction takes from a run's summary, and files that cannot be written."""

import json

import pytest

import run_predict
from commands.predict import settings_of
from tests.scripts.runs import mistake

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


def test_an_input_is_not_written_over(tmp_path, capsys):
    path = tmp_path / "a.tsv"
    path.write_text("text\na\n")
    arguments = ["classify", "--checkpoint=/nowhere", f"--input={path}[:1]", f"--output={path}"]
    assert "is also --input" in mistake(capsys, run_predict.main, arguments)
    assert path.read_text() == "text\na\n"


@pytest.mark.parametrize("command", ["fill-mask", "tag"])
def test_a_text_in_another_encoding_is_refused(capsys, command):
    arguments = [
        command,
        "--checkpoint=/nowhere",
        b"caf\xe9 [MASK]".decode("utf-8", "surrogateescape"),
    ]
    error = mistake(capsys, run_predict.main, arguments)
    assert error.startswith("error: the text 'caf\\udce9 [MASK]' is not UTF-8")


@pytest.mark.parametrize(
    ("name", "words"), [("none/x.jsonl", "its folder is not there"), ("", "is a folder; give")]
)
def test_an_output_is_refused_before_the_model_is_read(tmp_path, capsys, name, words):
    output = tmp_path / name
    arguments = ["classify", "--checkpoint=/nowhere", f"--output={output}", "a text"]
    error = mistake(capsys, run_predict.main, arguments)
    assert error.startswith(f"error: --output {output}")
    assert words in error
