"""What every script does."""

import sys

import pytest

import bert_jax
from commands.errors import run_script


def test_the_version_is_told_without_a_word_of_the_script(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["run_x.py", "--version"])
    run_script(lambda arguments: pytest.fail("it runs"))
    assert capsys.readouterr().out == f"bert_jax {bert_jax.__version__}\n"


def test_a_script_gets_what_was_typed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["run_x.py", "a", "--b"])
    found = []
    run_script(found.extend)
    assert found == ["a", "--b"]
