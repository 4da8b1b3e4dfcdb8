"""Asking a trained model."""

import json

import pytest

import run_predict
from tests.scripts.runs import mistake


def test_fill_mask_prints_pieces_with_probabilities(whole_run, capsys):
    run_predict.main(["fill-mask", "--checkpoint", str(whole_run[0]), "the [MASK] sees a [MASK]."])
    lines = capsys.readouterr().out.splitlines()
    probabilities = [float(line.split()[0]) for line in lines if line.startswith("  ")]
    assert len(probabilities) == 10
    assert probabilities[:5] == sorted(probabilities[:5], reverse=True)
    assert 0 < sum(probabilities[:5]) <= 1.001


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fill-mask", "--checkpoint", "{run}", "no mask here"], ["[MASK]", "no mask here"]),
        (["fill-mask", "--checkpoint", "{run}", "[MASK] " * 40], ["42 tokens", "at most 32"]),
        (["fill-mask", "--checkpoint", "/nowhere", "a [MASK]"], ["/nowhere holds no checkpoint"]),
        (["fill-mask", "--checkpoint", "{run}", "--step=7", "a [MASK]"], ["no checkpoint of step"]),
        (["fill-mask", "--checkpoint", "{run}", "--top=0", "a [MASK]"], ["top is 0"]),
        (["fil-mask"], ["did you mean 'fill-mask'"]),
        (["classify", "--checkpoint={run}", "x"], ["was not fine-tuned", "run_finetune.py"]),
        (["tag", "--checkpoint={tuned}", "x"], ["fine-tuned for sst2", "run_predict.py classify"]),
        (["classify", "--checkpoint={tuned}"], ["give either TEXT", "--input FILE"]),
        (["classify", "--checkpoint={tuned}", " "], ["text is empty"]),
        (["classify", "--checkpoint={tuned}", "--input=/nowhere.tsv"], ["cannot be read"]),
        (["classify", "--checkpoint=/nowhere", "x"], ["error: /nowhere is not a folder"]),
    ],
)
def test_mistakes_of_prediction(whole_run, finetuned, capsys, arguments, words):
    names = {"{run}": str(whole_run[0]), "{tuned}": str(finetuned)}
    for name, folder in names.items():
        arguments = [argument.replace(name, folder) for argument in arguments]
    error = mistake(capsys, run_predict.main, arguments)
    assert all(word in error for word in words), error


def test_the_model_answers_texts_and_files(finetuned, data, tmp_path, capsys):
    ask = ["classify", "--checkpoint", str(finetuned)]
    run_predict.main([*ask, "a small cat finds the tree", "the dog likes a house"])
    typed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["label"] for row in typed] == ["cat", "dog"]
    assert typed[0]["text"] == "a small cat finds the tree"
    run_predict.main([*ask, "a cat", "the dog " * 12])
    assert "1 of 2 are longer than 24 tokens" in capsys.readouterr().err
    output = tmp_path / "found.jsonl"
    run_predict.main([*ask, f"--input={data}/dev.tsv", f"--output={output}", "--batch-size=7"])
    found = [json.loads(line) for line in output.read_text().splitlines()]
    expected = (finetuned / "predictions.jsonl").read_text().splitlines()
    for row, other in zip(found, map(json.loads, expected), strict=True):
        assert row["label"] == other["label"]
        assert row["probability"] == pytest.approx(other["probability"], abs=1e-5)
