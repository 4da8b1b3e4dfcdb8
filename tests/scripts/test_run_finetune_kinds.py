"""Tasks of other kinds than classification from a file to an answer, with a model that learns."""

import dataclasses
import json
import random

import pytest

import run_convert
import run_finetune
import run_predict
from bert_jax.interchange.names import to_tensors
from tests.checkpoints import TINY, random_params, write_hugging_face
from tests.scripts.runs import mistake

CONFIG = dataclasses.replace(TINY, num_hidden_layers=1, hidden_size=16, max_position_embeddings=48)
OTHERS = ["fox", "dog", "house", "jump"]


def text(word, draw):
    return f"the {draw.choice(['brown', 'quick', 'lazy'])} {word} walked ."


def choices(draw):
    """The right ending has a cat."""
    endings = [text(word, draw) for word in draw.sample(OTHERS, draw.choice([1, 2]))]
    label = draw.randrange(len(endings) + 1)
    endings.insert(label, text("cat", draw))
    return [{"ctx": text(draw.choice(OTHERS), draw), "endings": endings, "label": label}]


def passages(draw):
    """The relevant passage has a cat; each query is another."""
    number, query = draw.random(), text(draw.choice(OTHERS), draw)
    words = draw.sample(["cat", *draw.sample(OTHERS, 3)], 4)
    return [
        {"query_id": number, "query": query, "passage": text(word, draw), "label": word == "cat"}
        for word in words
    ]


def articles(draw):
    """The summary is the first sentence."""
    sentences = [text(draw.choice(["cat", *OTHERS]), draw).capitalize() for _ in range(8)]
    return [{"article": " ".join(sentences), "summary": sentences[0]}]


KINDS = {
    "hellaswag": (choices, "accuracy", "choose", ["The fox walked.", "A dog.", "The cat walked."]),
    "rerank": (passages, "mrr", "rank", ["The fox", "The dog walked.", "The cat walked."]),
    "summarize": (articles, "rouge1", "summarize", ["The cat walked. The fox walked. A dog."]),
}


def test_an_exported_regression_says_that_it_is_one(tmp_path, capsys):
    """transformers shapes the output layer, and reads its value, by these."""
    source, model, exported = (tmp_path / name for name in ("train.tsv", "model", "exported"))
    rows = [f"the {OTHERS[n % 4]} runs\t{n / 2}\n" for n in range(8)]
    source.write_text("text\tlabel\n" + "".join(rows))
    write_hugging_face(model, to_tensors(random_params(CONFIG), "hugging_face", CONFIG), CONFIG)
    run_finetune.main(
        f"regress --init-from {model} --train {source} --dev {source} --work-dir {tmp_path}/run "
        f"--sequence-length 16 --batch-size 8 --epochs 1 --export hf {exported}".split()
    )
    values = json.loads((exported / "config.json").read_text())
    assert values["problem_type"] == "regression"
    assert values["id2label"] == {"0": "LABEL_0"}
    capsys.readouterr()
    error = mistake(capsys, run_predict.main, ["classify", f"--checkpoint={exported}", "a"])
    assert f"{exported} is a folder of transformers, which does not say what" in error
    # Through a converted checkpoint and back nothing is lost.
    ours, again = tmp_path / "ours", tmp_path / "again"
    run_convert.main(["from-hf", f"--input={exported}", f"--output={ours}"])
    run_convert.main(["to-hf", f"--checkpoint={ours}", f"--output={again}"])
    assert json.loads((again / "config.json").read_text()) == values


@pytest.mark.parametrize("task", KINDS)
def test_a_kind_learns_and_answers(task, tmp_path, capsys):
    rows, best, command, texts = KINDS[task]
    for name, size in (("train", 80), ("dev", 20)):
        draw = random.Random(name)
        lines = [json.dumps(row) + "\n" for _ in range(size) for row in rows(draw)]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    model, work_dir = tmp_path / "model", tmp_path / "run"
    write_hugging_face(model, to_tensors(random_params(CONFIG), "hugging_face", CONFIG), CONFIG)
    run_finetune.main(
        [
            task,
            f"--init-from={model}",
            f"--train={tmp_path}/train.jsonl",
            f"--dev={tmp_path}/dev.jsonl",
            f"--work-dir={work_dir}",
            "--sequence-length=32",  # an article is read in several windows
            "--batch-size=16",
            "--epochs=5",
            "--dropout=0",
            "--optimizer.learning-rate=1e-2",
        ]
    )
    scores = json.loads((work_dir / "summary.json").read_text())["scores"]["dev"]
    assert scores[best] >= 0.9, scores
    predictions = (work_dir / "predictions.jsonl").read_text().splitlines()
    assert len(predictions) == 20
    capsys.readouterr()
    run_predict.main([command, "--checkpoint", str(work_dir), *texts])
    answer = json.loads(capsys.readouterr().out)
    shown = {
        "choose": lambda: answer["choice"],
        "rank": lambda: answer["ranking"][0]["text"],
        "summarize": lambda: answer["summary"],
    }
    assert shown[command]() == "The cat walked."
