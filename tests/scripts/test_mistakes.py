"""Mistakes of a user: one line, exit code 2, nothing written."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import pytest

import run_pretrain
from commands.errors import user_errors
from data_pipeline.prepare import PrepareConfig
from tests.scripts.runs import WORDS, mistake, options, prepare_text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.vocab-size": 30522}, ["model.vocab_size is 30522", "--model.vocab-size 1"]),
        ({"phases.1.sequence-length": 33}, ["phases.1.sequence_length 33", "32 positions"]),
        ({"phases.0.sequence-length": 4}, ["sequence_length is 4", "at least 5"]),
        ({"model.num-attention-heads": 3}, ["hidden_size 16", "num_attention_heads 3"]),
        ({"phases.0.batch-size": 6}, ["batch_size 6", "4 device(s)"]),
        ({"optimizer.warmup-steps": 25}, ["warmup_steps is 25", "24 steps"]),
        ({"phases.0.max-predictions": 24}, ["max_predictions 24", "sequence_length 24"]),
        ({"corpus": "/nowhere"}, ["/nowhere is not a corpus", "data_pipeline.prepare"]),
        ({"model.hiden-size": 16}, ["--model.hiden-size", "did you mean --model.hidden-size"]),
        ({"steps": 5}, ["--steps", "did you mean --phases.0.steps?"]),
        ({"learning-rate": 1}, ["--learning-rate", "did you mean --optimizer.learning-rate?"]),
        ({"corpus": __file__}, ["is not a corpus (it is a file, not a folder)"]),
        ({"phases.0.steps": "many"}, ["--phases.0.steps", "many"]),
        ({"evaluation-examples": -1}, ["evaluation_examples is -1"]),
        ({"seed": -1}, ["seed is -1"]),
        ({"seed": 99999999999999999999}, ["seed is 9"]),
        ({"optimizer.learning-rate": "inf"}, ["learning_rate is inf"]),
        ({"optimizer.weight-decay": "nan"}, ["weight_decay is nan"]),
        ({"model.initializer-range": -1}, ["initializer_range is -1"]),
        ({"model.type-vocab-size": 1}, ["type_vocab_size is 1"]),
        ({"loop.save-every": 0}, ["save_every is 0"]),
        ({"data.masked-lm-probability": 0}, ["masked_lm_probability"]),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(corpus, tmp_path, capsys, changes, words):
    arguments = options(corpus, tmp_path / "run", changes)
    error = mistake(capsys, run_pretrain.main, arguments)
    assert all(word in error for word in words), error
    assert not (tmp_path / "run").exists()


def test_an_unknown_recipe_names_the_nearest(capsys):
    error = mistake(capsys, run_pretrain.main, ["bse"])
    assert "did you mean 'base'" in error


def test_the_recipe_comes_first(capsys):
    error = mistake(capsys, run_pretrain.main, ["--corpus", "DIR", "bert-tiny"])
    assert "the recipe comes first: run_pretrain.py bert-tiny" in error


def test_a_recipe_without_a_corpus_says_how_to_make_one(capsys):
    assert "needs --corpus" in mistake(capsys, run_pretrain.main, ["base"])


def test_another_configuration_in_the_same_folder_names_the_fields(corpus, whole_run, capsys):
    changes = {"seed": 1, "phases.0.batch-size": 16}
    error = mistake(capsys, run_pretrain.main, options(corpus, whole_run[0], changes))
    assert "seed: 0 -> 1" in error
    assert "phases.0.batch_size: 8 -> 16" in error
    assert "loop" not in error


def test_pairs_need_two_documents(tmp_path, capsys):
    """A text without a blank line is one document: there is no other to draw a random B from."""
    document = "\n".join(f"sentence with the word {word}" for word in WORDS)
    corpus = prepare_text(tmp_path, [document], vocab_size=150, heldout_fraction=0.0)
    capsys.readouterr()
    error = mistake(capsys, run_pretrain.main, options(corpus, tmp_path / "run"))
    assert "has 1 train documents" in error
    assert not (tmp_path / "run").exists()


def test_evaluation_needs_held_out_documents(corpus, tmp_path, capsys):
    """The same corpus with its held-out documents taken away."""
    folder = tmp_path / "corpus"
    shutil.copytree(corpus, folder)
    metadata = json.loads((folder / "corpus.json").read_text())
    metadata["splits"]["heldout"] = {"documents": 0, "sentences": 0, "tokens": 0, "shards": []}
    (folder / "corpus.json").write_text(json.dumps(metadata))
    error = mistake(capsys, run_pretrain.main, options(folder, tmp_path / "run"))
    assert "0 held-out documents" in error
    assert "--evaluation-examples 0" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("place", ["{file}", "{file}/run", "/proc/run", "{full}", ""])
def test_a_work_dir_that_cannot_be_used(corpus, tmp_path, capsys, place):
    (tmp_path / "file").write_text("a file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("something else")
    place = place.format(file=tmp_path / "file", full=tmp_path / "full")
    error = mistake(capsys, run_pretrain.main, options(corpus, place))
    assert "--work-dir" in error
    assert {path.name for path in tmp_path.rglob("*")} == {"file", "full", "thesis.tex"}


def test_a_folder_in_which_nothing_was_saved_is_free(corpus, tmp_path, capsys):
    """As a run leaves it that ran out of memory in its first step."""
    (tmp_path / "config.json").write_text('{"seed": 5, "first_start": 1.0}')
    (tmp_path / "checkpoints").mkdir()
    changes = {"phases.0.steps": 4, "phases.1.steps": 1, "evaluation-examples": 0}
    changes["phases.1.sequence-length"] = 24  # one shape, one compilation
    run_pretrain.main(options(corpus, tmp_path, changes))
    assert "Done in" in capsys.readouterr().out


def test_adapt_needs_a_checkpoint(capsys):
    assert "add --init-from" in mistake(capsys, run_pretrain.main, ["adapt", "--corpus=x"])


def test_a_damaged_configuration(corpus, tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"seed": ')
    (tmp_path / "checkpoints" / "5").mkdir(parents=True)
    error = mistake(capsys, run_pretrain.main, options(corpus, tmp_path))
    assert f"{tmp_path}/config.json" in error


def test_another_corpus_with_the_same_vocabulary_is_refused(corpus, whole_run, tmp_path, capsys):
    documents = ["the cat.\nthe dog.", "a tree.\na house."] * 3
    other = prepare_text(tmp_path, documents, vocab=corpus / "vocab.txt")
    capsys.readouterr()
    error = mistake(capsys, run_pretrain.main, options(other, whole_run[0]))
    assert f"another text: {corpus} -> {other}" in error


@pytest.mark.parametrize(
    "damage",
    [
        lambda m: m.pop("splits"),
        lambda m: m.pop("tokenizer"),
        lambda m: m.pop("vocab_size"),
        lambda m: m.pop("special_ids"),
        lambda m: m["splits"].pop("heldout"),
        lambda m: m["splits"]["train"]["shards"][0].pop("files"),
        lambda m: m["splits"]["train"]["shards"][0]["files"]["tokens"].pop("crc32"),
        lambda m: m["special_ids"].update(mask=10**6),
        lambda m: m["tokenizer"].update(fingerprint="0" * 64),
    ],
)
def test_a_damaged_corpus_description(corpus, tmp_path, capsys, damage):
    folder = tmp_path / "corpus"
    shutil.copytree(corpus, folder)
    metadata = json.loads((folder / "corpus.json").read_text())
    damage(metadata)
    (folder / "corpus.json").write_text(json.dumps(metadata))
    arguments = options(corpus, tmp_path / "run", {"corpus": folder})
    error = mistake(capsys, run_pretrain.main, arguments)
    assert "corpus" in error
    assert not (tmp_path / "run").exists()


def test_the_demo_is_refused_before_its_corpus_is_built(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = mistake(capsys, run_pretrain.main, ["demo", "--phases.0.max-predictions", "64"])
    assert "max_predictions 64" in error
    assert not list(tmp_path.iterdir())


def test_out_of_memory_is_one_line(capsys):
    def step(arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")

    error = mistake(capsys, step, [])  # the same for all scripts, which call their options so
    assert "lower batch_size (in pre-training phases.N.batch_size)" in error
    assert "raise accumulation_steps (loop.accumulation_steps" in error


def test_programming_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError), user_errors():
        dataclasses.replace(PrepareConfig(("x",), Path("y")), processes=1 // 0)
