"""Before the first step: a dry run, the learning rates, starting from another run."""

import json
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

import run_pretrain
from bert_jax.training.saved_params import load_params, saved_steps
from data_pipeline.tokenization.wordpiece import WordPiece
from tests.processes import ROOT
from tests.scripts.runs import (
    STEPS,
    assert_same_run,
    finish,
    mistake,
    options,
    rows,
    start,
    wait_for,
)


def test_a_dry_run_shows_everything_and_writes_nothing(corpus, tmp_path, capsys):
    run_pretrain.main([*options(corpus, tmp_path / "run"), "--dry-run"])
    output = capsys.readouterr().out
    assert "optimizer.learning_rate = 0.01" in output
    assert "phases.1.sequence_length = 32" in output
    parameters = int(re.search(r"([\d,]+) parameters", output)[1].replace(",", ""))
    vocab_size = json.loads((corpus / "corpus.json").read_text())["vocab_size"]
    hidden, positions, types, wide = 16, 32, 2, 32
    by_hand = (vocab_size + positions + types + 2) * hidden  # embeddings and their LayerNorm
    by_hand += 4 * (hidden + 1) * hidden + 2 * hidden  # attention
    by_hand += (hidden + 1) * wide + (wide + 1) * hidden + 2 * hidden  # feed-forward
    by_hand += (hidden + 1) * hidden + 2 * hidden + vocab_size  # masked-LM head
    by_hand += (hidden + 1) * hidden + (hidden + 1) * 2  # pooler, next-sentence head
    assert parameters == by_hand
    assert re.search(r"sequences\W+112\W+80\b", output)  # 14 and 10 steps of 8
    assert "4 cpu devices: data 4 x fsdp 1 x tensor 1; " in output
    state = (3 * parameters + 2) * 4  # two moments; the steps of the run and of the schedule
    assert re.search(rf"state per device\W+{state / 2**20:.1f} MiB", output)
    assert re.search(r"memory of a step, per device\W+\d+ MiB", output)
    assert re.search(r"^ 5  7\.917e-03  #+$", output, re.MULTILINE)  # 0.01 (1 - 5 / 24)
    assert output.count("[[MASK] -> ") > 0
    assert "[CLS]" in output
    assert not list(tmp_path.iterdir())


def test_a_dry_run_makes_no_corpus(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = mistake(capsys, run_pretrain.main, ["--dry-run"])
    assert "python -m data_pipeline.prepare --input embedded" in error
    assert not list(tmp_path.iterdir())


def test_learning_rates_of_every_step(capsys):
    run_pretrain.main(["tiny", "--learning-rates", "--phases.0.steps=1000"])
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [int(step) for step, _ in rows] == list(range(1000))
    warmup = [1e-3 * step / 500 for step in range(500)]
    decay = [1e-3 * (1 - step / 1000) for step in range(500, 1000)]
    np.testing.assert_allclose([float(rate) for _, rate in rows], warmup + decay, rtol=1e-4)


def test_a_run_starts_from_another_and_says_what_is_fresh(corpus, whole_run, tmp_path, capsys):
    """With everything but the head frozen, so that what was taken can still be seen at the end."""
    changes = {
        "init-from": whole_run[0],
        "data.pairs": "full_sentences",
        "optimizer.frozen": "encoder",
        "phases.1.sequence-length": 24,  # one shape, one compilation
    }
    run_pretrain.main(options(corpus, tmp_path / "run", changes))
    output = capsys.readouterr().out
    assert f"parameters: {whole_run[0]}, step {STEPS}" in output
    assert "in it and not used: next_sentence_head, pooler" in output
    before, after = load_params(whole_run[0])[0], load_params(tmp_path / "run")[0]
    jax.tree.map(np.testing.assert_array_equal, before["encoder"], after["encoder"])
    assert set(after) == {"encoder", "masked_lm"}
    assert not np.array_equal(before["masked_lm"]["bias"], after["masked_lm"]["bias"])


def test_a_run_goes_on_with_another_runs_optimizer(corpus, whole_run, tmp_path, capsys):
    """Two steps more in the second phase: evaluation begins where the other run's ended."""
    changes = {"init-from": whole_run[0], "phases.1.steps": STEPS - 14 + 2}
    arguments = [*options(corpus, tmp_path / "run", changes), "--init-optimizer"]
    run_pretrain.main(arguments)
    assert f"with Adam's moments, from step {STEPS} on" in capsys.readouterr().out
    old, new = rows(whole_run[0]), rows(tmp_path / "run")
    assert new[0]["masked_lm_loss"] == pytest.approx(old[-1]["masked_lm_loss"], rel=1e-6)
    assert [(row["step"], row["split"]) for row in new] == [
        (STEPS, "eval"), (STEPS + 2, "train"), (STEPS + 2, "eval"),
    ]  # fmt: skip
    assert load_params(tmp_path / "run")[2] == STEPS + 2
    error = mistake(
        capsys,
        run_pretrain.main,
        [*options(corpus, tmp_path / "other", {"init-from": whole_run[0]}), "--init-optimizer"],
    )
    assert f"has had {STEPS} steps, the run has {STEPS} in all" in error


def test_a_run_that_has_begun_needs_its_source_no_more(corpus, whole_run, tmp_path):
    """Stopped, its source deleted, continued: the same as a run in one piece."""
    source = tmp_path / "source"
    shutil.copytree(whole_run[0], source)
    changes = {"init-from": source, "phases.1.sequence-length": 24}  # one shape, one compilation
    code, output = finish(options(corpus, tmp_path / "whole", changes))
    assert code == 0, output
    process = start(options(corpus, tmp_path / "run", changes))
    wait_for(process, lambda: bool(saved_steps(tmp_path / "run")))
    process.kill()
    process.communicate()
    shutil.rmtree(source)
    code, output = finish(options(corpus, tmp_path / "run", changes))
    assert code == 0, output
    assert "parameters: the run's own, step" in output
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_reader_who_has_seen_enough():
    """`run_pretrain.py base --learning-rates | head`."""
    command = f"{sys.executable} run_pretrain.py base --learning-rates | head -2"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True
    )
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == ["0", "1"]
    assert result.stderr == ""
    assert result.returncode == 0


def test_the_models_sizes_come_from_the_checkpoint(corpus, whole_run, tmp_path, capsys):
    arguments = [f"--corpus={corpus}", f"--init-from={whole_run[0]}", f"--work-dir={tmp_path}/run"]
    arguments += ["--phases.0.sequence-length=24", "--phases.0.max-predictions=4", "--dry-run"]
    run_pretrain.main(["adapt", *arguments])
    output = capsys.readouterr().out
    assert "model.hidden_size = 16" in output
    assert "model.num_hidden_layers = 1" in output


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.hidden-size": 32}, ["is (150, 16)", "the run's is (150, 32)"]),
        ({"model.num-hidden-layers": 2}, ["another encoder", "encoder/layer_1"]),
        ({"optimizer.frozen": "encodr"}, ["'encodr'", "there are: encoder"]),
    ],
)
def test_a_checkpoint_that_does_not_fit(corpus, whole_run, tmp_path, capsys, changes, words):
    arguments = options(corpus, tmp_path / "run", {"init-from": whole_run[0]} | changes)
    vocab_size = json.loads((corpus / "corpus.json").read_text())["vocab_size"]
    error = mistake(capsys, run_pretrain.main, arguments)
    assert all(word.replace("150", str(vocab_size)) in error for word in words), error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("change", ["pieces", "case"])
def test_another_tokenizer_is_refused(corpus, whole_run, tmp_path, capsys, change):
    source = tmp_path / "source"
    shutil.copytree(whole_run[0], source)
    pieces = (corpus / "vocab.txt").read_text().splitlines()
    if change == "pieces":
        pieces[-1], pieces[-2] = pieces[-2], pieces[-1]
    (source / "vocab.txt").unlink()
    (source / "tokenizer_config.json").unlink()
    WordPiece(pieces, lowercase=change == "pieces").save(source)
    error = mistake(
        capsys, run_pretrain.main, options(corpus, tmp_path / "run", {"init-from": source})
    )
    assert f"--vocab {source}/vocab.txt" in error
    assert ("--no-lowercase" in error) == (change == "case")
    assert not (tmp_path / "run").exists()


def test_a_damaged_checkpoint(corpus, whole_run, tmp_path, capsys):
    shutil.copytree(whole_run[0], tmp_path / "start")
    (tmp_path / "start" / "config.json").write_text("{")
    arguments = options(corpus, tmp_path / "run", {"init-from": tmp_path / "start"})
    assert f"{tmp_path}/start/config.json" in mistake(capsys, run_pretrain.main, arguments)
