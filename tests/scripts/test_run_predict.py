"""Asking a trained model."""

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
    ],
)
def test_mistakes_of_prediction(whole_run, capsys, arguments, words):
    arguments = [argument.replace("{run}", str(whole_run[0])) for argument in arguments]
    error = mistake(capsys, run_predict.main, arguments)
    assert all(word in error for word in words), error
