"""A mistake on the command line is one line and exit code 2."""

import dataclasses
from typing import Literal

import pytest

from data_pipeline.command_line import parse


@dataclasses.dataclass(frozen=True)
class Inner:
    """Inner.

    Attributes:
      steps: a number.
      learning_rate: another.
    """

    steps: int = 1
    learning_rate: float | None = 0.1


@dataclasses.dataclass(frozen=True)
class Outer:
    """Outer.

    Attributes:
      name: a required text.
      kind: one of two.
      inner: nested.
    """

    name: str
    kind: Literal["one", "two"] = "one"
    inner: Inner = Inner()


def test_nothing_near_is_nothing_meant(capsys):
    with pytest.raises(SystemExit):
        parse(Outer, ["--name", "x", "--colour", "red"], program="program")
    assert capsys.readouterr().err.strip() == "error: unknown option --colour"


def test_values_are_read():
    found = parse(Outer, ["--name", "x", "--inner.steps", "3"], program="program")
    assert found == Outer("x", "one", Inner(3))


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--name", "x", "--inner.stps", "3"], ["--inner.stps", "did you mean --inner.steps?"]),
        (["--name", "x", "--steps", "3"], ["--steps", "did you mean --inner.steps?"]),
        (["--inner.lr", "3", "--name", "x"], ["did you mean --inner.learning-rate?"]),
        (["--name", "x", "--inner.steps", "many"], ["--inner.steps is 'many'; it must be a whole"]),
        (
            ["--name", "x", "--inner.learning-rate", "low"],
            ["--inner.learning-rate is 'low'; it must be a number"],
        ),
        (["--name", "x", "--kind", "three"], ["'three'", "'one', 'two'"]),
        (["--name"], ["--name"]),
        (["--nmae", "x"], ["unknown option --nmae", "did you mean --name?"]),
        ([], ["--name"]),
    ],
)
def test_mistakes_are_one_line(capsys, monkeypatch, encoding, arguments, words):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    with pytest.raises(SystemExit) as caught:
        parse(Outer, arguments, program="program")
    assert caught.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    assert all(word in error for word in words), error
