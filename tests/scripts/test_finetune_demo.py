"""`python run_finetune.py`: a pre-trained model, the same from scratch, and a linear one."""

import dataclasses
import json

import pytest

import run_finetune
from commands.finetune import demo as finetune_demo
from tests.scripts.finetuning import write_texts
from tests.scripts.runs import mistake


@pytest.fixture
def small_demo(whole_run, tmp_path, monkeypatch):
    """The demo on a tiny model and made-up texts."""
    data = tmp_path / "data"
    data.mkdir()
    for name, seed in (("train", 1), ("dev", 2)):
        write_texts(data / f"{name}.tsv", 100, seed)
        text = (data / f"{name}.tsv").read_text()
        (data / f"{name}.tsv").write_text(text.replace("sentence", "text", 1))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(finetune_demo, "PRETRAINED", whole_run[0])
    monkeypatch.setattr(finetune_demo, "DATA", data)
    prepare = finetune_demo.prepare

    def shorter(console):
        configs = prepare(console)
        return {
            name: dataclasses.replace(config, epochs=1, sequence_length=24, batch_size=8)
            for name, config in configs.items()
        }

    monkeypatch.setattr(finetune_demo, "prepare", shorter)


def test_three_scores_are_compared(small_demo, tmp_path, capsys):
    run_finetune.main([])
    output = capsys.readouterr().out
    table = output[output.index("Which package") :]
    for name in ("pre-trained", "the same model from scratch", "TF-IDF and logistic regression"):
        assert name in table
    # One word decides, which is easy for a linear model.
    assert finetune_demo.baseline() > 0.95
    assert f"{finetune_demo.baseline():.3f}" in table
    assert (tmp_path / "runs/demo-finetuned/README.md").is_file()
    assert "run_predict.py classify --checkpoint runs/demo-finetuned" in output
    # The second really starts from scratch, and says so.
    cards, starts = [], set()
    for name in ("demo-finetuned", "demo-from-scratch"):
        cards.append((tmp_path / "runs" / name / "README.md").read_text())
        config = json.loads((tmp_path / "runs" / name / "config.json").read_text())
        starts.add(config["start_fingerprint"])
    assert len(starts) == 2
    assert "Fine-tuned from" in cards[0]
    assert "Trained from scratch, in the architecture" in cards[1]
    assert "parameters from scratch, in the architecture" in output
    assert "fresh: everything" in output
    # The data of other installed packages.
    train = tmp_path / "data/train.tsv"
    train.write_text(train.read_text().replace("tree", "house"))
    error = mistake(capsys, run_finetune.main, [])
    assert "runs/demo-finetuned holds the demo of another model or of other data; delete" in error


def test_without_a_pretrained_demo_it_says_how_to_make_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "make it first with: python run_pretrain.py" in mistake(capsys, run_finetune.main, [])
