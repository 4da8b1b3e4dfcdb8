"""The comparison of fine-tunings, at toy size."""

import itertools
import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from benchmarks.finetune import scored, shown
from benchmarks.finetune_transformers import encoded, predictions
from bert_jax.tasks.registry import find_task
from bert_jax.tasks.tagging.reader import Entity, TaggedText, words_of
from bert_jax.tasks.tagging.tags import spans_of_tags
from data_pipeline.tokenization.interface import SPECIAL_PIECES

ROOT = Path(__file__).parent.parent.parent
FILLERS = [f"{a}{b}" for a, b in itertools.product("bcdf", "aeiou")]
WORDS = ["cat", "dog", *FILLERS]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder of transformers with a tiny fresh model."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL_PIECES.values(), *WORDS]) + "\n")
    config = transformers.BertConfig(
        vocab_size=len(SPECIAL_PIECES) + len(WORDS),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.2,
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Sentences about cats or dogs, and the same animals as entities."""
    folder = tmp_path_factory.mktemp("data")
    source = random.Random(0)
    (folder / "glue" / "SST-2").mkdir(parents=True)
    (folder / "conll2003").mkdir()
    names = {"train": "eng.train", "dev": "eng.testa"}
    for split, rows in (("train", 600), ("dev", 60)):
        table, columns = "sentence\tlabel\n", ""
        for _ in range(rows):
            animal = source.choice(["cat", "dog"])
            words = source.choices(FILLERS, k=source.randint(2, 9))
            words.insert(source.randrange(len(words)), animal)
            table += f"{' '.join(words)}\t{int(animal == 'cat')}\n"
            tags = [f"I-{word.upper()}" if word in ("cat", "dog") else "O" for word in words]
            columns += "".join(f"{word} X X {tag}\n" for word, tag in zip(words, tags, strict=True))
            columns += "\n"
        (folder / "glue" / "SST-2" / f"{split}.tsv").write_text(table)
        (folder / "conll2003" / names[split]).write_text(columns)
    return folder


def benchmark(name, model, data, output, *settings):
    """Runs benchmarks/<name>.py."""
    paths = ["--model", str(model), "--data", str(data), "--output", str(output)]
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *settings, *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        timeout=500,
    )


def test_both_sides_learn_the_toy(model, data, tmp_path):
    output = tmp_path / "finetune.json"
    settings = [
        "--learning-rate",
        "1e-2",
        "--only",
        "sst2",
        "conll2003",
        "--seeds",
        "0",
        "--epochs",
        "4",
    ]
    finished = benchmark("finetune", model, data, output, *settings)
    assert finished.returncode == 0, finished.stderr
    table = finished.stdout
    found = json.loads(output.read_text())
    assert set(found) == {"sst2", "conll2003"}
    for name, row in found.items():
        assert set(row["sides"]) == {"bert_jax", "transformers"}
        for (run,) in row["sides"].values():
            assert run["score"] > 0.9
            assert len(run["epoch_seconds"]) == 4
            assert 0 < sum(run["epoch_seconds"]) < run["seconds"]
        seconds = [side[0]["epoch_seconds"] for side in row["sides"].values()]
        means = [statistics.mean(epochs) for epochs in (*seconds, *(some[1:] for some in seconds))]
        (line,) = (line for line in table.splitlines() if line.startswith(f"| {name} |"))
        assert line.split(" | ")[4:] == [
            *(f"{mean:.0f} ± 0" for mean in means[:3]),
            f"{means[3]:.0f} ± 0 |",
        ]


def test_the_methods_are_compared_in_one_table(model, data, tmp_path):
    output = tmp_path / "methods.json"
    settings = ["--only", "sst2", "--methods", "full", "lora", "--epochs", "2", "--rows", "200"]
    finished = benchmark("methods", model, data, output, *settings, "--seeds", "1")
    assert finished.returncode == 0, finished.stderr
    table = finished.stdout
    written = json.loads(output.read_text())["sst2"]
    assert (written["settings"]["training_rows"], written["settings"]["epochs"]) == (200, 2)
    found = written["methods"]
    for method, runs in found.items():
        ((seed, run),) = runs.items()
        assert seed == "1"
        assert len(run["epoch_seconds"]) == 2
        (line,) = (line for line in table.splitlines() if line.startswith(f"| {method} |"))
        share = run["trained"] / run["parameters"]
        assert line.split(" | ")[1:3] == [f"{run['score']:.4f} ± 0.0000", f"{share:.2%}"]
    full, lora = found["full"]["1"], found["lora"]["1"]
    assert full["trained"] == full["parameters"] > 10 * lora["trained"]
    assert full["saved_bytes"] > max(4 * full["parameters"], lora["saved_bytes"])
    assert lora["peak_bytes"] > 50 * 2**20
    other = [*settings[:-1], "100", "--seeds", "2"]
    refused = benchmark("methods", model, data, output, *other)
    assert refused.returncode == 1
    assert "'training_rows': 200" in refused.stderr
    assert refused.stderr.rstrip().endswith("give another --output")


def test_the_other_sides_tags_count_as_our_own_do():
    """Our tags as class numbers give our score; one shifted by a word gives another."""
    task = find_task("conll2003")
    texts = "New York X Ada", "X Bob Lee X", "X X"
    tags = (["B-LOC", "I-LOC", "O", "B-PER"], ["O", "B-PER", "I-PER", "O"], ["O", "O"])
    examples = []
    for text, row in zip(texts, tags, strict=True):
        words = words_of(text, "word")
        entities = tuple(
            Entity(kind, words[first][0], words[end - 1][1], "")
            for kind, first, end in spans_of_tags(row)
        )
        examples.append(TaggedText("f:1", text, words, entities))
    labels = task.labels_of(examples)
    assert [shown(example, labels)[0] for example in examples] == [text.split() for text in texts]
    answers = [shown(example, labels)[1] for example in examples]
    assert scored(task, answers, examples, labels) == 1
    shifted = [answers[0][-1:] + answers[0][:-1], *answers[1:]]
    assert scored(task, shifted, examples, labels) == pytest.approx(1 / 3)


def test_words_that_the_other_side_is_not_shown_are_outside(model):
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    network = transformers.AutoModelForTokenClassification.from_pretrained(model, num_labels=3)
    with torch.no_grad():
        network.classifier.bias.copy_(torch.tensor([0.0, 0.0, 1e4]))
    words = ["cat", "\u200b", "dog", "ba", "be", "bi"]  # the second has no piece
    work = {"kind": "tag", "sequence_length": 5, "dev": [(words, [0, 1, 2, 0, 1, 2])]}
    rows = encoded(tokenizer, work, "dev")
    assert predictions(network, tokenizer, rows, 2) == [[2, 0, 2, 2, 0, 0]]
