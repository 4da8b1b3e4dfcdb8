"""What a command line of run_predict.py may not ask."""

import pytest

import run_predict
from tests.scripts.runs import mistake


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
    ("name", "words"), [("none/x.jsonl", "its folder does not exist"), ("", "is a folder; give")]
)
def test_an_output_is_refused_before_the_model_is_read(tmp_path, capsys, name, words):
    output = tmp_path / name
    arguments = ["classify", "--checkpoint=/nowhere", f"--output={output}", "a text"]
    error = mistake(capsys, run_predict.main, arguments)
    assert error.startswith(f"error: --output {output}")
    assert words in error
