"""Fine-tuning as a user sees it: what it leaves, mistakes, seeds, tasks of one's own."""

import dataclasses
import json
import math

import jax.numpy as jnp
import pytest
from rich.console import Console

import run_convert
import run_finetune
import run_predict
from bert_jax.monitoring.tracker import read_metrics
from bert_jax.objectives.finetuning import RegularizationConfig
from commands.finetune.command_line import from_command_line
from commands.finetune.run import open_run
from tests.processes import ROOT
from tests.scripts.finetuning import finetune_options
from tests.scripts.runs import assert_same_run, mistake


def test_a_run_learns_and_leaves_what_it_promises(finetuned, capsys):
    names = {path.name for path in finetuned.iterdir()}
    assert {
        "README.md", "checkpoints", "config.json", "confusion.png", "curves.png", "metrics.jsonl",
        "predictions.jsonl", "summary.json", "tensorboard", "vocab.txt",
    } <= names  # fmt: skip
    rows = read_metrics(finetuned / "metrics.jsonl")
    for name in ("curves.png", "confusion.png"):
        assert (finetuned / name).read_bytes().startswith(b"\x89PNG")
    scores = [row["accuracy"] for row in rows if row["split"] == "eval"]
    assert len(scores) == 5
    assert max(scores) >= 0.9, scores
    summary = json.loads((finetuned / "summary.json").read_text())
    best = next(row for row in rows if row["split"] == "eval" and row["step"] == summary["step"])
    assert best["accuracy"] == max(scores[1:])
    assert summary["scores"]["dev"] == {"accuracy": best["accuracy"]}
    predictions = [
        json.loads(line) for line in (finetuned / "predictions.jsonl").read_text().splitlines()
    ]
    right = [row["label"] == row["true"] for row in predictions]
    assert sum(right) / 30 == pytest.approx(best["accuracy"])
    card = (finetuned / "README.md").read_text()
    assert f"| dev | {best['accuracy']:.4f} |" in card
    assert "| optimizer.learning_rate | 0.01 |" in card
    assert "| dropout | 0.0 |" in card  # not the default
    assert "regularization" not in card
    assert f"python run_predict.py classify --checkpoint {finetuned} TEXT" in card


def test_a_finished_run_converts_to_hugging_face_with_its_labels(finetuned, tmp_path):
    folder = tmp_path / "hf"
    run_convert.main(["to-hf", f"--checkpoint={finetuned}", f"--output={folder}"])
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["id2label"] == {"0": "cat", "1": "dog"}


def test_a_folder_of_transformers_is_converted_on_the_fly(data, pretrained, finetuned, tmp_path):
    """The same encoder, once through transformers' files: the same fine-tuning."""
    folder, changes = tmp_path / "hf", {"epochs": 1}
    run_convert.main(["to-hf", f"--checkpoint={pretrained}", f"--output={folder}"])
    run_finetune.main(finetune_options(data, folder, tmp_path / "a", changes=changes))
    run_finetune.main(finetune_options(data, pretrained, tmp_path / "b", changes=changes))
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_a_mesh_that_splits_the_model_trains_the_same(data, pretrained, finetuned, tmp_path):
    work_dir = tmp_path / "run"
    changes = {"mesh.data": 1, "mesh.fsdp": 2, "mesh.tensor": 2}
    run_finetune.main(finetune_options(data, pretrained, work_dir, changes=changes))
    found, expected = (
        [row["loss"] for row in read_metrics(folder / "metrics.jsonl")]
        for folder in (work_dir, finetuned)
    )
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_what_the_command_line_says_reaches_the_training(data, pretrained, tmp_path):
    """Each option against the same run without it."""

    def opened(changes):
        arguments = finetune_options(data, pretrained, tmp_path / "run", changes=changes)
        config = from_command_line([word.removesuffix("=True") for word in arguments])
        return open_run(config, arguments, Console(quiet=True))

    def seen(run):
        return {
            "objective": run.objective.regularization,
            "dropout": run.model.hidden_dropout_prob,
            "dtype": run.model.dtype,
            "frozen": run.optimizer.frozen,
            "loop": run.config.loop(15),
            "rows": len(run.data.train.features.rows),
            "start": len(run.start.params),
        }

    def rate_of_embeddings(run):
        """The first steps of the embeddings, as a share of those of the output layer."""
        one = {"kernel": jnp.ones(2)}
        params = {"encoder": {"embeddings": one, "layer_0": one}, "classifier": one}
        state = run.optimizer.init(params)
        for _ in range(2):  # the first has the rate 0
            updates, state = run.optimizer.update(params, state, params)
        lowest, highest = updates["encoder"]["embeddings"], updates["classifier"]
        return float(lowest["kernel"][0] / highest["kernel"][0])

    plain = seen(opened({}))
    loop = plain["loop"]
    for changes, name, value in (
        ({"regularization.r-drop": 1}, "objective", RegularizationConfig(r_drop=1)),
        ({"regularization.adversarial": 2}, "objective", RegularizationConfig(adversarial=2)),
        ({"dropout": 0.25}, "dropout", 0.25),
        ({"dtype": "bfloat16"}, "dtype", "bfloat16"),
        ({"frozen-layers": 1}, "frozen", ("encoder/embeddings", "encoder/layer_0")),
        ({"patience": 2}, "loop", dataclasses.replace(loop, patience=2)),
        ({"accumulation-steps": 2}, "loop", dataclasses.replace(loop, accumulation_steps=2)),
        ({"train-examples": 50}, "rows", 50),
        ({"from-scratch": True}, "start", 0),
    ):
        found = seen(opened(changes))
        assert found == plain | {name: value} != plain
    assert rate_of_embeddings(opened({"optimizer.layer-decay": 0.5})) == pytest.approx(0.25)


def test_several_seeds_show_their_spread(data, pretrained, tmp_path, capsys):
    changes = {"epochs": 1, "test": f"{data}/dev.tsv"}
    arguments = finetune_options(data, pretrained, tmp_path / "run", changes=changes)
    exported = tmp_path / "hf"
    command = [*arguments, "--seeds", "3", "5", "--export", "hf", str(exported)]
    run_finetune.main(command)
    assert json.loads((exported / "config.json").read_text())["id2label"]["1"] == "dog"
    output = capsys.readouterr().out
    assert "seed-3" in output
    assert output.count("\ntest: accuracy ") == 2
    error = mistake(capsys, run_predict.main, ["classify", f"--checkpoint={tmp_path}/run", "a"])
    assert f"give one of them: {tmp_path}/run/seed-3, {tmp_path}/run/seed-5" in error
    error = mistake(capsys, run_predict.main, ["classify", f"--checkpoint={exported}", "a"])
    assert "is a folder of transformers" in error
    capsys.readouterr()
    for seed in (3, 5):
        folder = tmp_path / f"run/seed-{seed}"
        assert (folder / "SST-2.tsv").read_text().startswith("index\tprediction\n0\t")
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["scores"]["test"] == summary["scores"]["dev"]
    first, second = (
        read_metrics(tmp_path / f"run/seed-{seed}/metrics.jsonl")[1]["loss"] for seed in (3, 5)
    )
    assert first != second
    found = json.loads((tmp_path / "run/seeds.json").read_text())
    scores = [
        json.loads((tmp_path / f"run/seed-{seed}/summary.json").read_text())["scores"]["dev"]
        for seed in (3, 5)
    ]
    assert list(found["seeds"].values()) == scores
    one, other = (each["accuracy"] for each in scores)
    expected = {
        "mean": (one + other) / 2,
        "deviation": abs(one - other) / math.sqrt(2),
        "best": max(one, other),
    }
    table = output[output.index("Scores of the best epoch") :].splitlines()[1:]
    for title, value in expected.items():
        assert found["spread"][title]["accuracy"] == pytest.approx(value)
        assert f"{value:.4f}" in next(line for line in table if f" {title} " in line)
    (exported / "mine").touch()
    run_finetune.main(command)  # finished and exported: typed again it does nothing
    assert (exported / "mine").exists()
    assert f"# for transformers: {exported}" in capsys.readouterr().out
    # The best of other seeds may be another model.
    error = mistake(capsys, run_finetune.main, [*arguments, "--seeds=3", *command[-3:]])
    assert f"--export hf {exported} holds the best of the seeds 3, 5, not of these; give" in error


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": "/nowhere"}, ["/nowhere/train.tsv cannot be read"]),
        ({"init-from": "/nowhere"}, ["/nowhere is not a folder"]),
        ({"sequence-length": 33}, ["33", "32 positions"]),
        ({"epochs": 0}, ["epochs is 0"]),
        # Before anything is loaded:
        ({"init-from": "/nowhere", "optimizer.beta-1": 1}, ["optimizer.beta_1 is 1.0"]),
        ({"sequence-length": 4}, ["sequence_length is 4", "at least 5"]),
        ({"optimizer.frozen": "encoder/layer_9"}, ["encoder/layer_9", "encoder/layer_0"]),
        ({"columns.first": "text"}, ["train.tsv:2: there is no column 'text'", "sentence, label"]),
        ({"batch-size": 6}, ["batch_size 6 is not divisible by 4 device(s)"]),
        ({"train-examples": 1}, ["all 1 training rows have the label"]),
        ({"dev": "{odd}"}, ["odd.tsv:2", "'bird'", "cat, dog", "--dev"]),
    ],
)
def test_mistakes_are_one_line(data, pretrained, tmp_path, capsys, changes, words):
    odd = tmp_path / "odd.tsv"
    odd.write_text("sentence\tlabel\na bird\tbird\n")
    changes = {k: str(v).replace("{odd}", str(odd)) for k, v in changes.items()}
    arguments = finetune_options(data, pretrained, tmp_path / "run", changes=changes)
    error = mistake(capsys, run_finetune.main, arguments)
    assert all(word in error for word in words), error
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_exported_is_said_before(data, pretrained, tmp_path, capsys):
    def error(folder, *more, task="sst2"):
        arguments = finetune_options(data, pretrained, tmp_path / "run", task)
        arguments += ["--export", "hf", str(folder), *more]
        return mistake(capsys, run_finetune.main, arguments)

    assert "exists and is not empty" in error(data)
    unknown = finetune_options(data, pretrained, tmp_path / "run")
    unknown += ["--export", "onx", str(tmp_path / "x")]
    assert "onx is unknown; there are: hf" in mistake(capsys, run_finetune.main, unknown)
    assert "no model with prefix" in error(tmp_path / "hf", "--method.name=prefix")
    assert "output layer of summarize" in error(tmp_path / "hf", task="summarize")
    assert "contains the run's work folder" in error(tmp_path / "run")
    (tmp_path / "file").touch()
    assert f"{tmp_path}/file cannot be written to" in error(tmp_path / "file/hf")


def test_tasks_and_data_must_be_named(pretrained, capsys, tmp_path):
    def error(*arguments):
        return mistake(capsys, run_finetune.main, arguments)

    assert "did you mean 'sst2'" in error("sst")
    assert "--init-from is empty" in error("sst2")
    assert "add --data DIR" in error("sst2", f"--init-from={pretrained}").replace("Add", "add")
    task = tmp_path / "mine.py"
    task.write_text("x = 1")
    assert "defines no TASK" in error(str(task))
    assert f"the task {task}x.py is not a file; give a Python file that" in error(f"{task}x.py")
    task.write_text("1/0")
    assert "ZeroDivisionError" in error(str(task))
    task = tmp_path / "of_before.py"
    task.write_text("from configs.tasks.classification import Classification")
    assert "are in bert_jax.tasks now" in error(str(task))


def test_a_task_of_ones_own(data, pretrained, tmp_path):
    task = tmp_path / "animals.py"
    task.write_text(
        "from bert_jax.tasks.classification.task import Classification\n"
        "from bert_jax.tasks.columns import Columns\n"
        "TASK = Classification('animals', columns=Columns('sentence'), scores=('macro_f1',),\n"
        "                      best='macro_f1')\n"
    )
    work_dir = tmp_path / "run"
    arguments = finetune_options(data, pretrained, work_dir, str(task), {"epochs": 1})
    run_finetune.main(arguments)
    assert list(json.loads((work_dir / "summary.json").read_text())["scores"]["dev"]) == [
        "macro_f1"
    ]
    run_predict.main(["classify", f"--checkpoint={work_dir}", "a cat"])


def test_the_task_of_the_guide(pretrained, tmp_path):
    guide = (ROOT / "docs/finetuning.md").read_text()
    task = tmp_path / "trec.py"
    task.write_text(guide.split("```python\n")[1].split("```")[0])
    for name in ("train.txt", "dev.txt"):
        lines = ["CAT:small the cat sees a tree\n", "DOG:large the dog finds a house\n"]
        (tmp_path / name).write_text("".join(lines * 8))
    changes = {"train": tmp_path / "train.txt", "dev": tmp_path / "dev.txt", "epochs": 1}
    run_finetune.main(finetune_options(tmp_path, pretrained, tmp_path / "run", str(task), changes))
    scores = json.loads((tmp_path / "run/summary.json").read_text())["scores"]["dev"]
    assert list(scores) == ["accuracy", "macro_f1"]


def test_another_head_is_refused_and_can_start_fresh(data, finetuned, tmp_path, capsys):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("train.tsv", "dev.tsv"):
        text = (data / name).read_text()
        (folder / name).write_text(text.replace("\tcat", "\tfeline"))
    arguments = finetune_options(folder, finetuned, tmp_path / "run", changes={"epochs": 1})
    error = mistake(capsys, run_finetune.main, arguments)
    assert "output layer for sst2 (cat, dog), not for sst2 (dog, feline)" in error
    assert "--fresh-head" in error
    run_finetune.main([*arguments, "--fresh-head"])


def test_the_folder_of_another_model_is_left_alone(data, pretrained, tmp_path, capsys):
    folder = tmp_path / "hf"
    run_convert.main(["to-hf", f"--checkpoint={pretrained}", f"--output={folder}"])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    error = mistake(capsys, run_finetune.main, finetune_options(data, folder, folder))
    assert f"{folder} is not empty and not the work folder of a run" in error
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
