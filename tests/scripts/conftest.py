"""A corpus and uninterrupted runs for all tests of the scripts; a gcloud that only plays."""

import random
import sys
from pathlib import Path

import pytest

import run_pretrain
from tests.made_once import made_once
from tests.scripts.cloud import write_program
from tests.scripts.finetuning import finetune_options, write_texts
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


@pytest.fixture(scope="session")
def pretrained(corpus, tmp_path_factory):
    """A pre-trained model with weights so large that its few steps do not matter."""
    changes = {
        "model.hidden-size": 32,
        "model.initializer-range": 0.3,
        "phases.0.steps": 1,
        "phases.1.steps": 1,
        "phases.1.sequence-length": 24,  # one shape, one compilation
        "optimizer.warmup-steps": 1,
        "evaluation-examples": 0,
    }

    def make(folder):
        run_pretrain.main(options(corpus, folder / "run", changes))

    return made_once(tmp_path_factory, "pretrained", make) / "run"


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Tables to fine-tune on."""

    def make(folder):
        write_texts(folder / "train.tsv", 120, seed=1)
        write_texts(folder / "dev.tsv", 30, seed=2)

    return made_once(tmp_path_factory, "tables", make)


@pytest.fixture(scope="session")
def finetuned(data, pretrained, tmp_path_factory):
    """A fine-tuning that was never interrupted, in an interpreter of its own to the end."""

    def make(folder):
        arguments = finetune_options(data, pretrained, folder / "run")
        run_alone("run_finetune.py", arguments, devices=4)

    return made_once(tmp_path_factory, "finetuned", make) / "run"


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
