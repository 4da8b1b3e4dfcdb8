"""What an earlier version made is read and says the same: see tests/recorded/README.md.

XLA compiles other programs for other kinds of CPU, and their last bits differ, so recorded numbers
are held to a tolerance. That two commits agree to the last bit on one machine is for
scripts/compare_losses.py to show.
"""

import filecmp
import json
import re
import tarfile
from pathlib import Path

import pytest

import run_convert
import run_finetune
import run_predict
import run_pretrain
from bert_jax.monitoring.tracker import read_metrics
from data_pipeline import prepare
from tests.recorded.record import ARCHIVE, HERE, QUESTIONS
from tests.scripts.runs import SPEED

pytestmark = pytest.mark.usefixtures("no_pictures")

NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
TRAINING = 1e-4  # relative, of losses and gradient norms: each step amplifies what differs
SAID = 1e-5
PRINTED = 1.01e-4  # fill-mask prints four digits


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The recorded folders."""
    folder = tmp_path_factory.mktemp("recorded").resolve()
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    for path in folder.rglob("*"):
        if path.is_file() and HERE.encode() in (content := path.read_bytes()):
            path.write_bytes(content.replace(HERE.encode(), str(folder).encode()))
    return folder


@pytest.fixture(autouse=True)
def _inside(recorded, monkeypatch):
    monkeypatch.chdir(recorded)


def typed(output, changes=()):
    """The command that made a folder, without the program's name."""
    command = json.loads(Path("commands.json").read_text())[output]
    changed = dict(changes)
    for option, value in changed.items():
        command[command.index(option) + 1] = value
    return command[2 if command[0] == "-m" else 1 :]


def check_rows(work_dir, expected):
    """The same steps with the same numbers."""
    found, wanted = (
        read_metrics(Path(folder) / "metrics.jsonl") for folder in (work_dir, expected)
    )
    assert len(found) == len(wanted)
    for row, other in zip(found, wanted, strict=True):
        assert row.keys() - SPEED == other.keys() - SPEED
        for name in row.keys() - SPEED:
            close = (
                other[name]
                if name == "split"
                else pytest.approx(other[name], rel=TRAINING, abs=1e-6)
            )
            assert row[name] == close, (row["step"], name)


def check_lines(found, expected, tolerance=SAID):
    """The same words, and the same numbers within a tolerance."""
    assert len(found) == len(expected)
    for line, other in zip(found, expected, strict=True):
        assert NUMBER.sub("", line) == NUMBER.sub("", other)
        numbers, wanted = (list(map(float, NUMBER.findall(text))) for text in (line, other))
        assert numbers == pytest.approx(wanted, abs=tolerance), line


def times(folder):
    """When each file of a folder was written, in nanoseconds."""
    return {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*")}


def ask(question, capsys):
    capsys.readouterr()
    run_predict.main(question)
    return capsys.readouterr().out.splitlines()


def test_an_interrupted_run_goes_on(capsys):
    before = read_metrics(Path("runs/interrupted/metrics.jsonl"))
    run_pretrain.main(typed("runs/interrupted"))
    assert f"checkpoint of step {before[-1]['step']}" in capsys.readouterr().err
    check_rows("runs/interrupted", "runs/finished")


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question[-1])
def test_every_model_says_the_same(question, capsys):
    answers = json.loads(Path("answers.json").read_text())
    (lines,) = [answer["lines"] for answer in answers if answer["command"] == question]
    tolerance = PRINTED if question[0] == "fill-mask" else SAID
    check_lines(ask(question, capsys), lines, tolerance)


@pytest.mark.parametrize("name", ["runs/from-exported", "runs/from-pretraining", "runs/regress"])
def test_the_model_of_others_is_trained_from(name):
    """Folders that we exported, one of them with its output layer, and one of TF1."""
    again = f"{name}-again"
    run_finetune.main(typed(name, {"--work-dir": again}))
    check_rows(again, name)


def test_a_finished_run_is_left_as_it_is():
    before = times("runs/finished")
    run_pretrain.main(typed("runs/finished"))
    assert times("runs/finished") == before


def test_a_finished_fine_tuning_is_asked_again():
    """It was exported, too, which is not done twice."""
    work_dir = Path("runs/classify")
    exported = times("exported-classify")
    rows = (work_dir / "metrics.jsonl").read_text()
    predictions = (work_dir / "predictions.jsonl").read_text().splitlines()
    run_finetune.main(typed("runs/classify"))
    assert (work_dir / "metrics.jsonl").read_text() == rows
    check_lines((work_dir / "predictions.jsonl").read_text().splitlines(), predictions)
    assert exported == {
        path: path.stat().st_mtime_ns for path in Path("exported-classify").iterdir()
    }


def test_lora_is_merged(capsys):
    run_convert.main(["merge", "--checkpoint", "runs/lora", "--output", "merged"])
    (question,) = [question for question in QUESTIONS if question[-1] == "runs/lora"]
    expected = ask(question, capsys)
    check_lines(ask([*question[:-1], "merged"], capsys), expected)


def test_the_export_is_the_same_to_the_byte():
    run_convert.main(typed("exported-pretraining", {"--output": "exported-again"}))
    names = sorted(path.name for path in Path("exported-pretraining").iterdir())
    assert names == sorted(path.name for path in Path("exported-again").iterdir())
    same, _, _ = filecmp.cmpfiles("exported-pretraining", "exported-again", names, shallow=False)
    assert same == names


@pytest.mark.parametrize("form", ["hf", "tf1"])
def test_the_conversion_is_the_same(form, capsys):
    run_convert.main(typed(f"converted-{form}", {"--output": f"{form}-again"}))
    (question,) = [question for question in QUESTIONS if question[-1] == f"converted-{form}"]
    lines = ask(question, capsys)[1:]
    assert ask([*question[:-1], f"{form}-again"], capsys)[1:] == lines


def test_the_corpus_is_the_same_to_the_byte(capsys):
    before = times("corpus")
    prepare.main(typed("corpus"))
    assert times("corpus") == before
    prepare.main(typed("corpus", {"--output": "corpus-again"}))
    names = [path.name for path in Path("corpus").iterdir() if path.name != "report.md"]
    same, _, _ = filecmp.cmpfiles("corpus", "corpus-again", names, shallow=False)
    assert same == names
    prepare.main(["--verify", "corpus"])
