"""The scripts as a user meets them: bad input, interruption, kill -9, and a finished run."""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import run_predict
import run_pretrain
from bert_jax.checkpoint import load_params
from bert_jax.tracker import read_metrics
from configs.errors import user_errors
from data_pipeline.prepare import PrepareConfig, prepare

ROOT = Path(__file__).parent.parent
STEPS = 24
WORDS = ["the", "a", "small", "large", "cat", "dog", "tree", "house", "sees", "finds", "likes"]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Forty documents of made-up sentences."""
    folder = tmp_path_factory.mktemp("corpus")
    source = random.Random(0)
    documents = [
        "\n".join(
            " ".join(source.choices(WORDS, k=source.randint(4, 9))) + "."
            for _ in range(source.randint(5, 12))
        )
        for _ in range(40)
    ]
    (folder / "text.txt").write_text("\n\n".join(documents))
    prepare(
        PrepareConfig(
            input=(str(folder / "text.txt"),),
            output=folder / "corpus",
            language="lines",
            vocab_size=150,
            heldout_fraction=0.3,
            processes=1,
        )
    )
    return folder / "corpus"


def options(corpus, work_dir, changes=()):
    vocab_size = json.loads((corpus / "corpus.json").read_text())["vocab_size"]
    values = {
        "corpus": corpus,
        "work-dir": work_dir,
        "evaluation-examples": 16,
        "model.vocab-size": vocab_size,
        "model.hidden-size": 16,
        "model.num-hidden-layers": 1,
        "model.num-attention-heads": 2,
        "model.intermediate-size": 32,
        "model.max-position-embeddings": 32,
        "optimizer.warmup-steps": 4,
        "optimizer.learning-rate": 1e-2,
        "model.dtype": "float32",
        "phases.0.steps": 14,
        "phases.0.sequence-length": 24,
        "phases.0.batch-size": 8,
        "phases.0.max-predictions": 5,
        "phases.1.steps": STEPS - 14,
        "phases.1.sequence-length": 32,
        "phases.1.batch-size": 8,
        "phases.1.max-predictions": 5,
        "loop.log-every": 2,
        "loop.evaluate-every": 6,
        "loop.save-every": 8,
    } | dict(changes)
    return ["base", *(f"--{name}={value}" for name, value in values.items())]


def start(arguments, *wrapper):
    environment = dict(os.environ) | {"XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*wrapper, sys.executable, ROOT / "run_pretrain.py", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def finish(arguments):
    process = start(arguments)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def wait_for(process, condition):
    """Waits until the condition holds; fails if the process ends before."""
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.0005)


@pytest.fixture(scope="session")
def whole_run(corpus, tmp_path_factory):
    """A run that was never interrupted."""
    work_dir = tmp_path_factory.mktemp("whole") / "run"
    code, output = finish(options(corpus, work_dir))
    assert code == 0, output
    return work_dir, output


def rows(work_dir):
    return [
        {name: value for name, value in row.items() if "per_second" not in name}
        for row in read_metrics(work_dir / "metrics.jsonl")
    ]


def assert_same_run(work_dir, expected):
    found, other = (load_params(folder)[0] for folder in (work_dir, expected))
    jax.tree.map(np.testing.assert_array_equal, found, other)
    assert rows(work_dir) == rows(expected)


def test_a_run_leaves_what_it_promises(whole_run):
    work_dir, output = whole_run
    names = {path.name for path in work_dir.iterdir()}
    assert {
        "config.json", "checkpoints", "metrics.jsonl", "tensorboard", "curves.png", "vocab.txt",
        "summary.json",
    } <= names  # fmt: skip
    train = [row for row in read_metrics(work_dir / "metrics.jsonl") if row["split"] == "train"]
    assert [row["step"] for row in train] == list(range(2, STEPS + 1, 2))
    assert set(train[0]) == {
        "step", "split", "loss", "masked_lm_loss", "masked_lm_accuracy", "next_sentence_loss",
        "next_sentence_accuracy", "learning_rate", "gradient_norm", "sequences_per_second",
        "tokens_per_second",
    }  # fmt: skip
    evaluations = [row for row in rows(work_dir) if row["split"] == "eval"]
    assert [row["step"] for row in evaluations] == [0, 6, 12, 14, 18, 24]
    assert evaluations[-1]["masked_lm_loss"] < evaluations[0]["masked_lm_loss"] - 0.5
    assert "unigram entropy" in output
    assert "python run_predict.py fill-mask" in output
    assert "\x1b" not in output


def test_kill_9_at_any_moment_loses_nothing_that_shows(corpus, whole_run, tmp_path):
    """Mid-step, mid-save and mid-evaluation, one after the other, then to the end."""
    work_dir = tmp_path / "run"
    log, checkpoints = work_dir / "metrics.jsonl", work_dir / "checkpoints"

    def logged(step, split):
        return any(row["step"] == step and row["split"] == split for row in read_metrics(log))

    moments = [
        lambda: logged(4, "train"),  # stepping, before the first checkpoint
        lambda: any("tmp" in path.name for path in checkpoints.glob("*")),  # saving
        lambda: logged(18, "train") and not logged(18, "eval"),  # evaluating
    ]
    arguments = options(corpus, work_dir)
    for moment in moments:
        process = start(arguments)
        wait_for(process, moment)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    code, output = finish(arguments)
    assert code == 0, output
    assert "continuing from the checkpoint of step" in output
    assert_same_run(work_dir, whole_run[0])
    assert not any("tmp" in path.name for path in checkpoints.iterdir())


def test_sigterm_saves_and_the_same_command_continues(corpus, whole_run, tmp_path, capsys):
    work_dir = tmp_path / "run"
    arguments = options(corpus, work_dir)
    process = start(arguments)
    wait_for(process, lambda: len(read_metrics(work_dir / "metrics.jsonl")) > 2)
    assert "another process is training" in mistake(capsys, run_pretrain.main, arguments)
    process.terminate()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "SIGTERM: saved step" in output
    assert not (work_dir / "summary.json").exists()
    code, output = finish(arguments)
    assert code == 0, output
    assert_same_run(work_dir, whole_run[0])


def test_a_finished_run_typed_again_says_so(corpus, whole_run, capsys):
    work_dir, _ = whole_run
    before = {path: path.stat().st_mtime_ns for path in work_dir.rglob("*")}
    run_pretrain.main(options(corpus, work_dir))
    assert "finished; nothing to do" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in work_dir.rglob("*")}


def test_fill_mask_prints_pieces_with_probabilities(whole_run, capsys):
    run_predict.main(["fill-mask", "--checkpoint", str(whole_run[0]), "the [MASK] sees a [MASK]."])
    lines = capsys.readouterr().out.splitlines()
    probabilities = [float(line.split()[0]) for line in lines if line.startswith("  ")]
    assert len(probabilities) == 10
    assert probabilities[:5] == sorted(probabilities[:5], reverse=True)
    assert 0 < sum(probabilities[:5]) <= 1.001


def mistake(capsys, main, arguments):
    """The one line that a mistake prints, with exit code 2."""
    with pytest.raises(SystemExit) as caught, user_errors():
        main(arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    return error


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


def test_a_recipe_without_a_corpus_says_how_to_make_one(capsys):
    assert "needs --corpus" in mistake(capsys, run_pretrain.main, ["base"])


def test_another_configuration_in_the_same_folder_names_the_fields(corpus, whole_run, capsys):
    changes = {"seed": 1, "phases.0.batch-size": 16}
    error = mistake(capsys, run_pretrain.main, options(corpus, whole_run[0], changes))
    assert "seed: 0 -> 1" in error
    assert "phases.0.batch_size: 8 -> 16" in error
    assert "loop" not in error


def test_sentence_order_and_spans_are_trained(corpus, tmp_path):
    changes = {
        "data.pairs": "sentence_order",
        "data.masking": "span",
        "phases.0.steps": 2,
        "phases.1.steps": 1,
        "optimizer.warmup-steps": 1,
        "loop.log-every": 1,
    }
    code, output = finish(options(corpus, tmp_path / "run", changes))
    assert code == 0, output
    assert "order accuracy" in output
    found = read_metrics(tmp_path / "run/metrics.jsonl")
    assert {row["split"] for row in found} == {"train", "eval"}
    for row in found:
        assert {"sentence_order_loss", "sentence_order_accuracy"} <= row.keys()
        assert "next_sentence_loss" not in row


def test_pairs_need_two_documents(tmp_path, capsys):
    """A text without a blank line is one document: there is no other to draw a random B from."""
    (tmp_path / "text.txt").write_text("\n".join(f"sentence with the word {w}" for w in WORDS))
    prepare(
        PrepareConfig(
            input=(str(tmp_path / "text.txt"),),
            output=tmp_path / "corpus",
            language="lines",
            vocab_size=150,
            heldout_fraction=0.0,
            processes=1,
        )
    )
    capsys.readouterr()
    error = mistake(capsys, run_pretrain.main, options(tmp_path / "corpus", tmp_path / "run"))
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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fill-mask", "--checkpoint", "{run}", "no mask here"], ["[MASK]", "no mask here"]),
        (["fill-mask", "--checkpoint", "{run}", "[MASK] " * 40], ["42 tokens", "at most 32"]),
        (["fill-mask", "--checkpoint", "/nowhere", "a [MASK]"], ["/nowhere holds no checkpoint"]),
        (["fill-mask", "--checkpoint", "{run}", "--step=7", "a [MASK]"], ["no checkpoint of step"]),
        (["fill-mask", "--checkpoint", "{run}", "--top=0", "a [MASK]"], ["--top is 0"]),
        (["fil-mask"], ["did you mean 'fill-mask'"]),
    ],
)
def test_mistakes_of_prediction(whole_run, capsys, arguments, words):
    arguments = [argument.replace("{run}", str(whole_run[0])) for argument in arguments]
    error = mistake(capsys, run_predict.main, arguments)
    assert all(word in error for word in words), error


@pytest.mark.parametrize("place", ["{file}", "{file}/run", "/proc/run", "{full}", ""])
def test_a_work_dir_that_cannot_be_used(corpus, tmp_path, capsys, place):
    (tmp_path / "file").write_text("a file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("something else")
    place = place.format(file=tmp_path / "file", full=tmp_path / "full")
    error = mistake(capsys, run_pretrain.main, options(corpus, place))
    assert "--work-dir" in error
    assert {path.name for path in tmp_path.rglob("*")} == {"file", "full", "thesis.tex"}


def test_a_damaged_configuration(corpus, tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"seed": ')
    error = mistake(capsys, run_pretrain.main, options(corpus, tmp_path))
    assert "config.json is damaged" in error


def test_another_corpus_with_the_same_vocabulary_is_refused(corpus, whole_run, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("\n\n".join(["the cat.\nthe dog.", "a tree.\na house."] * 3))
    prepare(
        PrepareConfig(
            input=(str(tmp_path / "text.txt"),),
            output=tmp_path / "corpus",
            language="lines",
            vocab=corpus / "vocab.txt",
            processes=1,
        )
    )
    capsys.readouterr()
    (whole_run[0] / "summary.json").rename(tmp_path / "summary.json")
    try:
        error = mistake(capsys, run_pretrain.main, options(tmp_path / "corpus", whole_run[0]))
    finally:
        (tmp_path / "summary.json").rename(whole_run[0] / "summary.json")
    assert "corpus_fingerprint" in error


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


@pytest.mark.parametrize("blocks", [6, 40])
def test_a_full_disk_is_one_line_and_what_was_complete_stays(corpus, whole_run, tmp_path, blocks):
    """No file may grow beyond some blocks of 512 bytes: the kernel sees to it in every thread."""
    arguments = options(corpus, tmp_path / "run")
    process = start(arguments, "sh", "-c", f'ulimit -f {blocks}; exec "$@"', "sh")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2, output
    assert "Traceback" not in output
    assert output.strip().splitlines()[-1].startswith("error: the disk is full")
    code, output = finish(arguments)
    assert code == 0, output
    assert_same_run(tmp_path / "run", whole_run[0])


def test_programming_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError), user_errors():
        dataclasses.replace(PrepareConfig(("x",), Path("y")), processes=1 // 0)
