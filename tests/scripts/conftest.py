"""One corpus and one uninterrupted run for all tests of the scripts; a gcloud that only plays."""

import random
import sys
from pathlib import Path

import pytest

from tests.made_once import made_once
from tests.scripts.cloud import write_program
from tests.scripts.runs import WORDS, options, prepare_text, run_alone


@pytest.fixture(scope="module", autouse=True)
def _no_pictures(no_pictures):
    """`whole_run` and others in interpreters of their own draw theirs."""


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Forty documents of made-up sentences."""

    def make(folder):
        source = random.Random(0)
        documents = [
            "\n".join(
                " ".join(source.choices(WORDS, k=source.randint(4, 9))) + "."
                for _ in range(source.randint(5, 12))
            )
            for _ in range(40)
        ]
        prepare_text(folder, documents, vocab_size=150, heldout_fraction=0.3)

    return made_once(tmp_path_factory, "corpus", make) / "corpus"


@pytest.fixture(scope="session")
def whole_run(corpus, tmp_path_factory):
    """A run that was never interrupted, in an interpreter of its own to the end."""

    def make(folder):
        printed = run_alone("run_pretrain.py", options(corpus, folder / "run"))
        (folder / "printed").write_text(printed)

    folder = made_once(tmp_path_factory, "whole", make)
    return folder / "run", (folder / "printed").read_text()


@pytest.fixture
def world(tmp_path):
    """A folder with a playing gcloud, a corpus and the settings for it."""
    programs = tmp_path / "programs"
    programs.mkdir()
    fake = Path(__file__).with_name("fake_gcloud.py")
    write_program(programs / "gcloud", f'exec {sys.executable} -S {fake} "$@"')
    (tmp_path / "corpora" / "wikipedia").mkdir(parents=True)
    (tmp_path / "corpora" / "wikipedia" / "corpus.json").write_text("{}")
    (tmp_path / "lives.json").write_text("[{}]")
    return tmp_path
