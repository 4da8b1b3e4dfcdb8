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

from data_pipeline.tokenizer import SPECIAL_PIECES

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


def run_benchmark(name, model, data, output, *settings):
    """Runs benchmarks/<name>.py and returns what it prints."""
    paths = ["--model", str(model), "--data", str(data), "--output", str(output)]
    finished = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *settings, *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        timeout=500,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_both_sides_learn_the_toy_and_are_scored_alike(model, data, tmp_path):
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
    table = run_benchmark("finetune", model, data, output, *settings)
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
    table = run_benchmark("methods", model, data, output, *settings, "--seeds", "1")
    found = json.loads(output.read_text())["sst2"]
    for method, runs in found.items():
        ((seed, run),) = runs.items()
        assert seed == "1"
        assert len(run["epoch_seconds"]) == run["epochs"] == 2
        (line,) = (line for line in table.splitlines() if line.startswith(f"| {method} |"))
        share = run["trained"] / run["parameters"]
        assert line.split(" | ")[1:3] == [f"{run['score']:.4f} ± 0.0000", f"{share:.2%}"]
    full, lora = found["full"]["1"], found["lora"]["1"]
    assert full["trained"] == full["parameters"] > 10 * lora["trained"]
    assert full["saved_bytes"] > max(4 * full["parameters"], lora["saved_bytes"])
    assert lora["peak_bytes"] > 50 * 2**20
