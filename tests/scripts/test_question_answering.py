"""Questions from files to answers: what a tiny model learns, decides and says of new texts."""

import dataclasses
import json

import numpy as np
import pytest

import run_finetune
import run_predict
from bert_jax.interchange.names import to_tensors
from tests.checkpoints import TINY, random_params, write_hugging_face
from tests.scripts.runs import mistake

WORDS = ["dog", "house", "fox", "quick", "brown", "under", "over"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A checkpoint, and questions in SQuAD's form: the answer is the cat, where there is one."""
    folder = tmp_path_factory.mktemp("questions")
    config = dataclasses.replace(
        TINY, num_hidden_layers=1, hidden_size=16, max_position_embeddings=48
    )
    tensors = to_tensors(random_params(config), "hugging_face", config)
    write_hugging_face(folder / "checkpoint", tensors, config)
    random = np.random.default_rng(0)
    articles = []
    for number in range(60):
        words = list(random.choice(WORDS, 30))
        answers = []
        if number % 2:
            place = int(random.integers(30))
            words[place] = "cat"
            answers = [{"text": "cat", "answer_start": len(" ".join([*words[:place], ""]))}]
        record = {"id": f"q{number}", "question": "the a", "answers": answers}
        record["is_impossible"] = not answers
        articles.append({"paragraphs": [{"context": " ".join(words), "qas": [record]}]})
    (folder / "squad.json").write_text(json.dumps({"data": articles}))
    return folder


def test_squad2_is_learned_decided_and_predicted(files, tmp_path, capsys):
    source, work_dir = files / "squad.json", tmp_path / "run"
    run_finetune.main(
        f"squad2 --init-from {files / 'checkpoint'} --train {source}[:40] --dev {source}[40:50] "
        f"--test {source}[50:] --work-dir {work_dir} --sequence-length 32 --epochs 3 "
        "--batch-size 4 --optimizer.learning-rate 1e-2 --dropout 0".split()
    )
    output = capsys.readouterr().out
    assert f"40 examples of {source}[:40], " in output  # and more features
    summary = json.loads((work_dir / "summary.json").read_text())
    assert summary["scores"]["test"]["f1"] > 0.8, output
    threshold = summary["settings"]["no_answer_threshold"]
    lines = (work_dir / "test_predictions.jsonl").read_text().splitlines()
    predictions = [json.loads(line) for line in lines]
    for prediction in predictions:
        margin = prediction["no_answer_score"] - prediction["nbest"][0]["score"]
        assert (prediction["answer"] == "") == (margin > threshold)
    answers = {prediction["id"]: prediction["answer"] for prediction in predictions}
    assert list(answers) == [f"q{number}" for number in range(50, 60)]
    assert json.loads((work_dir / "squad2_predictions.json").read_text()) == answers

    ask = ["answer", "--checkpoint", str(work_dir)]
    run_predict.main([*ask, "--input", f"{source}[50:]", "--batch-size", "4"])
    asked = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [prediction["answer"] for prediction in asked] == list(answers.values())
    # Another threshold decides otherwise.
    summary["settings"]["no_answer_threshold"] = -1e9
    (work_dir / "summary.json").write_text(json.dumps(summary))
    run_predict.main([*ask, "the a", "quick brown fox over the Cat"])
    (prediction,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert prediction["answer"] == ""
    assert prediction["nbest"][0] | {"score": 0, "probability": 0} == {
        "answer": "Cat",
        "start": 25,
        "end": 28,
        "score": 0,
        "probability": 0,
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("--train {squad}[:0]", ["[:0] holds no article; there are 60"]),
        ("--train {squad}[1]", ["write FILE[FROM:TO]"]),
        ("--sequence-length 20", ["question q0", "sequence_length 20", "at least 21"]),
        ("--regularization.label-smoothing 0.1", ["label_smoothing needs classes"]),
        ("--class-weights balanced", ["squad2 has no classes"]),
    ],
)
def test_mistakes(files, tmp_path, capsys, change, words):
    source = files / "squad.json"
    arguments = (
        f"squad2 --init-from {files / 'checkpoint'} --train {source} --dev {source} "
        f"--work-dir {tmp_path} --sequence-length 32 {change.replace('{squad}', str(source))}"
    )
    error = mistake(capsys, run_finetune.main, arguments.split())
    assert all(word in error for word in words), error
