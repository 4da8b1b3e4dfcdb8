"""A kind of task from outside the packages: by a folder and the registry's line, and by a file."""

import dataclasses
import json
import os
import random
import signal

import pytest

import run_convert
import run_finetune
import run_predict
from bert_jax.interchange.names import to_tensors
from bert_jax.tasks import registry
from bert_jax.tasks.registry import KINDS, tasks_of
from bert_jax.training.saved_params import saved_steps
from commands.finetune import train
from data_pipeline.finetune.batches import TrainingBatches
from tests.checkpoints import TINY, random_params, write_hugging_face
from tests.scripts.runs import mistake

CONFIG = dataclasses.replace(TINY, num_hidden_layers=1, hidden_size=16)
OTHERS = ["the", "brown", "quick", "lazy", "walked", "house"]
IN_A_FILE = """
from tests.toy_kind.task import Spot

class Mine(Spot):
    command = "tag"

TASK = Mine("mine")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A base, and lines in which the animal is meant."""
    folder = tmp_path_factory.mktemp("toy")
    write_hugging_face(
        folder / "base", to_tensors(random_params(CONFIG), "hugging_face", CONFIG), CONFIG
    )
    for name, size in (("train", 80), ("dev", 20)):
        draw = random.Random(name)
        lines = []
        for _ in range(size):
            words = draw.choices(OTHERS, k=draw.randint(2, 6))
            words.insert(draw.randrange(len(words) + 1), f"*{draw.choice(['cat', 'dog', 'fox'])}*")
            lines.append(" ".join(words) + "\n")
        (folder / f"{name}.txt").write_text("".join(lines))
    return folder


def options(folder, work_dir, task):
    return [
        task,
        f"--init-from={folder / 'base'}",
        f"--data={folder}",
        f"--work-dir={work_dir}",
        "--sequence-length=16",
        "--batch-size=16",
        "--epochs=6",
        "--dropout=0",
        "--optimizer.learning-rate=1e-2",
    ]


class Interrupted(TrainingBatches):
    def __call__(self, cursor):
        for number, batch in enumerate(super().__call__(cursor)):
            if number == 7:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


def summary(work_dir):
    return json.loads((work_dir / "summary.json").read_text())


def test_a_kind_is_a_folder_and_a_line(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(registry, "TASKS", tasks_of((*KINDS, "tests.toy_kind.task")))
    work_dir = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(train, "TrainingBatches", Interrupted)
        run_finetune.main(options(folder, work_dir, "spot"))
    assert not (work_dir / "summary.json").exists()
    assert 0 < saved_steps(work_dir)[-1] < 30
    run_finetune.main(options(folder, work_dir, "spot"))
    assert "continuing from the checkpoint of step" in capsys.readouterr().err
    assert summary(work_dir)["scores"]["dev"]["found"] >= 0.7
    run_predict.main(["spot", f"--checkpoint={work_dir}", "the lazy fox walked", "dog walked"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for line, row in zip((["the", "lazy", "fox", "walked"], ["dog", "walked"]), found, strict=True):
        assert row["word"] == line[row["index"]]
    exported = tmp_path / "exported"
    assert "--architecture BertModel" in mistake(
        capsys, run_convert.main, ["to-hf", f"--checkpoint={work_dir}", f"--output={exported}"]
    )
    run_convert.main(
        ["to-hf", f"--checkpoint={work_dir}", f"--output={exported}", "--architecture=BertModel"]
    )
    assert "left out: pointer" in capsys.readouterr().out
    run_predict.main(["--help"])
    assert "spot TEXT ..." in capsys.readouterr().out
    (tmp_path / "wrong.txt").write_text("*the* *fox*\n")
    error = mistake(
        capsys,
        run_predict.main,
        ["spot", f"--checkpoint={work_dir}", f"--input={tmp_path}/wrong.txt"],
    )
    assert "wrong.txt:1: 2 of 2 words are marked" in error


def test_a_kind_is_a_file(folder, tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(IN_A_FILE.replace('command = "tag"', "pass"))
    error = mistake(capsys, run_finetune.main, options(folder, tmp_path / "none", str(path)))
    assert "'spot'" in error
    path = tmp_path / "my_task.py"
    path.write_text(IN_A_FILE)
    work_dir = tmp_path / "run"
    run_finetune.main(options(folder, work_dir, str(path)))
    assert summary(work_dir)["scores"]["dev"]["found"] >= 0.7
    predictions = (work_dir / "predictions.jsonl").read_text().splitlines()
    assert len(predictions) == 20
    capsys.readouterr()
    run_predict.main(["tag", f"--checkpoint={work_dir}", f"--input={folder}/dev.txt"])
    assert capsys.readouterr().out.splitlines() == predictions
