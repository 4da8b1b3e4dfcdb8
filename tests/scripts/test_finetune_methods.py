"""Small parts from the command line: what is said, saved, continued, refused, merged, asked."""

import dataclasses
import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import run_convert
import run_finetune
import run_predict
from bert_jax.errors import UserError
from bert_jax.interchange.hugging_face import load_hugging_face
from bert_jax.interchange.names import to_tensors
from bert_jax.models.adapters import merge
from bert_jax.models.config import method_of
from bert_jax.monitoring.tracker import read_metrics
from bert_jax.training.checkpoint import save_params
from bert_jax.training.partial import fingerprint
from bert_jax.training.saved_params import _read_part, load_params, saved_steps
from commands.finetune import train
from commands.finetune.command_line import from_command_line
from commands.finetune.run import Run
from commands.saved_model import load_run, open_model
from configs.finetune import USUAL_RATES
from data_pipeline.finetune.batches import TrainingBatches
from tests.checkpoints import TINY, assert_same, random_params, write_hugging_face
from tests.scripts.runs import SPEED

# Nearly all of it are position embeddings, so that size matters and the step does not take long.
CONFIG = dataclasses.replace(TINY, num_hidden_layers=1, max_position_embeddings=200_000)
WORDS = ["the cat runs", "a dog walks .", "quick brown fox", "to be seen over the house !"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A base and two tables."""
    folder = tmp_path_factory.mktemp("methods")
    params = random_params(CONFIG)
    parts = {name: params[name] for name in ("encoder", "pooler")}
    write_hugging_face(folder / "base", to_tensors(parts, "hugging_face", CONFIG), CONFIG)
    for name, rows in (("train", 28), ("dev", 8)):
        lines = [
            f"{WORDS[i % 4]} {WORDS[i % 3]}\t{'odd' if i % 2 else 'even'}" for i in range(rows)
        ]
        (folder / f"{name}.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n")
    return folder


def options(folder, work_dir, method="lora", *more):
    return [
        "classify",
        f"--init-from={folder / 'base'}",
        f"--train={folder / 'train.tsv'}",
        f"--dev={folder / 'dev.tsv'}",
        f"--work-dir={work_dir}",
        f"--method.name={method}",
        "--sequence-length=16",
        "--batch-size=8",
        "--epochs=2",
        "--log-every=1",
        *more,
    ]


@pytest.fixture(scope="module")
def run(folder):
    """The work folder of an uninterrupted run with LoRA."""
    run_finetune.main(options(folder, folder / "lora"))
    return folder / "lora"


def refused(match, *arguments, main=run_finetune.main):
    with pytest.raises(UserError, match=match) as caught:
        main(list(map(str, arguments)))
    assert "\n" not in str(caught.value)


def test_only_the_small_part_is_saved(folder, run):
    largest = max(
        sum(path.stat().st_size for path in step.rglob("*") if path.is_file())
        for step in (run / "checkpoints").iterdir()
    )
    assert largest < (folder / "base/model.safetensors").stat().st_size / 20
    saved = _read_part(run / "checkpoints" / str(saved_steps(run)[-1]), "params")
    assert saved.keys() == {"adapters", "pooler", "classifier"}
    config = json.loads((run / "config.json").read_text())
    assert config["optimizer"]["learning_rate"] == USUAL_RATES["lora"]
    whole, _, _ = load_run(run)
    assert_same(whole["encoder"], open_model(folder / "base").params["encoder"])


class Interrupted(TrainingBatches):
    def __call__(self, cursor):
        for number, batch in enumerate(super().__call__(cursor)):
            if number == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


def test_a_resumed_run_equals_the_uninterrupted_one(folder, run, monkeypatch, capsys):
    again = folder / "again"
    with monkeypatch.context() as patch:
        patch.setattr(train, "TrainingBatches", Interrupted)
        run_finetune.main(options(folder, again))
    assert not (again / "summary.json").exists()
    # Adapters 2 x (8 x 8 + 8 x 8), pooler 72, classifier 18, the rest of the model.
    encoder = open_model(folder / "base").params["encoder"]
    total = sum(x.size for x in jax.tree.leaves(encoder)) + 256 + 72 + 18
    share = f"trained: 346 of {total:,} parameters ({346 / total:.2%})"
    assert share in capsys.readouterr().out
    middle = saved_steps(again)[-1]
    run_finetune.main(options(folder, again))
    assert f"continuing from the checkpoint of step {middle}" in capsys.readouterr().err
    assert 0 < middle < saved_steps(run)[-1] == saved_steps(again)[-1]
    for part in ("params", "opt_state"):
        one, other = (
            _read_part(path / "checkpoints" / str(saved_steps(path)[-1]), part)
            for path in (run, again)
        )
        jax.tree.map(np.testing.assert_array_equal, one, other)
    one, other = (
        [
            {name: value for name, value in row.items() if name not in SPEED}
            for row in read_metrics(path / "metrics.jsonl")
        ]
        for path in (run, again)
    )
    assert one == other


PARTS = {
    "houlsby": {"adapters", "encoder", "pooler", "classifier"},  # LayerNorms of the encoder
    "pfeiffer": {"adapters", "pooler", "classifier"},
    "prefix": {"adapters", "pooler", "classifier"},
    "bitfit": {"encoder", "pooler", "classifier"},  # its biases
}


@pytest.mark.parametrize("method", PARTS)
def test_every_method_is_saved_continued_and_asked(folder, method, monkeypatch):
    """Two seeds, stopped within the second."""
    work_dir = folder / f"two-{method}"
    arguments = [*options(folder, work_dir, method, "--epochs=1"), "--seeds", "0", "1"]

    class InterruptedLater(TrainingBatches):
        def __call__(self, cursor):
            for number, batch in enumerate(super().__call__(cursor)):
                if number == 2 and (work_dir / "seed-0/summary.json").exists():
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

    with monkeypatch.context() as patch:
        patch.setattr(train, "TrainingBatches", InterruptedLater)
        run_finetune.main(arguments)
    assert not (work_dir / "seed-1/summary.json").exists()
    assert not (work_dir / "seeds.json").exists()
    run_finetune.main(arguments)
    assert len(json.loads((work_dir / "seeds.json").read_text())["seeds"]) == 2
    last = work_dir / "seed-1"
    assert len(read_metrics(last / "metrics.jsonl")) == 4 + 2  # each step, both evaluations
    saved = _read_part(last / "checkpoints" / str(saved_steps(last)[-1]), "params")
    assert saved.keys() == PARTS[method]
    assert 0 < sum(x.size for x in jax.tree.leaves(saved)) < 10_000
    output = folder / f"{method}.jsonl"
    run_predict.main(
        ["classify", f"--checkpoint={last}", f"--input={folder}/dev.tsv", f"--output={output}"]
    )
    asked, found = (
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (output, last / "predictions.jsonl")
    )
    for one, other in zip(asked, found, strict=True):
        assert one["label"] == other["label"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)


def test_a_signal_in_the_last_evaluation_ends_the_seeds_after_it(folder, monkeypatch, capsys):
    work_dir = folder / "late"
    arguments = [*options(folder, work_dir, "bitfit", "--epochs=1"), "--seeds", "0", "1"]
    evaluate, asked = Run.evaluate, []

    def interrupted(self, params):
        asked.append(1)
        if len(asked) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(self, params)

    monkeypatch.setattr(Run, "evaluate", interrupted)
    run_finetune.main(arguments)
    assert "stopped after seed 0; the same command continues" in capsys.readouterr().out
    assert (work_dir / "seed-0/summary.json").exists()
    assert not (work_dir / "seed-1").exists()


def test_another_method_is_refused_by_its_name(folder, run):
    """LoRA leaves more to the base than BitFit does, which is not what was typed."""
    refused(r"configuration \(method.name: lora -> bitfit", *options(folder, run, "bitfit"))


def test_another_base_or_none_is_refused(folder, run):
    base, aside = folder / "base", folder / "aside"
    base.rename(aside)
    try:
        refused("is not a folder", *options(folder, run))
        with pytest.raises(UserError, match=f"trained on top of {base}, which is gone; restore it"):
            load_run(run)
        merged = folder / "from-elsewhere"
        arguments = ["merge", f"--checkpoint={run}", f"--base={aside}", f"--output={merged}"]
        run_convert.main(arguments)
        assert_same(load_params(merged)[0]["pooler"], load_run(run, base=aside)[0]["pooler"])
        params = random_params(CONFIG, seed=1)
        params = {name: params[name] for name in ("encoder", "pooler")}
        write_hugging_face(base, to_tensors(params, "hugging_face", CONFIG), CONFIG)
        refused(r"another configuration \(other parameters in --init-from", *options(folder, run))
        with pytest.raises(UserError, match="base are not those that this run was trained on top"):
            load_run(run)
    finally:
        for path in base.glob("*"):
            path.unlink()
        if base.exists():
            base.rmdir()
        aside.rename(base)


def test_a_run_that_was_continued_with_a_moved_base_can_be_asked(folder, run):
    work_dir = shutil.copytree(run, folder / "moved-run")
    base, moved = folder / "base", folder / "moved-base"
    base.rename(moved)
    try:
        run_finetune.main([*options(folder, work_dir), f"--init-from={moved}"])
        assert_same(load_run(work_dir)[0]["encoder"], open_model(moved).params["encoder"])
    finally:
        moved.rename(base)


def test_merged_and_exported(folder, run, capsys):
    merged, exported, again = folder / "merged", folder / "exported", folder / "exported-again"
    run_convert.main(["merge", f"--checkpoint={run}", f"--output={merged}"])
    whole, saved, step = load_run(run)
    params, config, merged_step = load_params(merged)
    assert merged_step == step
    assert_same(params, jax.tree.map(np.asarray, merge(method_of(saved), whole)))
    assert config["labels"] == ["even", "odd"]
    assert method_of(config).name == "full"
    run_convert.main(["to-hf", f"--checkpoint={run}", f"--output={exported}"])
    run_convert.main(["to-hf", f"--checkpoint={merged}", f"--output={again}"])
    one, other = (load_hugging_face(path) for path in (exported, again))
    assert one.class_name == other.class_name == "BertForSequenceClassification"
    assert_same(one.converted.params, other.converted.params)
    refused("holds all weights already", "merge", f"--checkpoint={merged}",
            f"--output={folder / 'nothing'}", main=run_convert.main)  # fmt: skip
    refused("a model with lora, .*; merge it: python run_convert.py merge",
            *options(folder, folder / "next"), f"--init-from={run}")  # fmt: skip


def test_merging_keeps_what_the_dev_set_decided(folder, run, capsys):
    decided = shutil.copytree(run, folder / "decided")
    (step, *_) = saved_steps(decided)
    settings = {"no_answer_threshold": 1.5}
    for number in (step, 7):
        (decided / "summary.json").write_text(json.dumps({"step": number, "settings": settings}))
        merged = folder / f"decided-merged-{number}"
        arguments = ["merge", f"--checkpoint={decided}", f"--output={merged}", f"--step={step}"]
        run_convert.main(arguments)
        found = json.loads((merged / "summary.json").read_text())
        assert found == {"step": step, "settings": settings}
        said = f"is for step 7, not for step {step}" in capsys.readouterr().out
        assert said == (number == 7)


def test_predictions_are_those_of_the_run(folder, run):
    output = folder / "asked.jsonl"
    run_predict.main(
        ["classify", f"--checkpoint={run}", f"--input={folder / 'dev.tsv'}", f"--output={output}"]
    )
    one, other = (
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (output, run / "predictions.jsonl")
    )
    assert [row["label"] for row in one] == [row["label"] for row in other]


def test_bitfit_merges_and_a_prefix_does_not(folder):
    """Checkpoints as runs would write them, without the runs."""
    base = open_model(folder / "base").params
    biases = flatten_dict(base, sep="/")
    unsaved = {p: x for p, x in biases.items() if p.startswith("encoder/") and p[-5:] != "/bias"}
    small = {"layer_0": {"attention": {"prefix_keys": np.ones((8, 2), np.float32)}}}
    parts = {
        "bitfit": {"encoder": _moved_biases(base["encoder"]), "pooler": base["pooler"]},
        "prefix": {"adapters": {"encoder": small}, "pooler": base["pooler"]},
    }
    left = {"bitfit": unsaved, "prefix": _encoder(biases)}
    for name, part in parts.items():
        (folder / name).mkdir()
        named = {
            "folder": str(folder / "base"),
            "step": None,
            "fingerprint": fingerprint(left[name]),
        }
        config = {"model": dataclasses.asdict(CONFIG), "method": {"name": name}, "base": named}
        save_params(folder / name, part, config)
        open_model(folder / "base").tokenizer.save(folder / name)
    output = folder / "merged-bitfit"
    run_convert.main(["merge", f"--checkpoint={folder / 'bitfit'}", f"--output={output}"])
    found = flatten_dict(load_params(output)[0]["encoder"], sep="/")
    for path, array in flatten_dict(base["encoder"], sep="/").items():
        np.testing.assert_array_equal(found[path], array + path.endswith("bias"))
    for command in ("merge", "to-hf"):
        refused("prefix adds .*cannot be merged", command,
                f"--checkpoint={folder / 'prefix'}", f"--output={folder / command}",
                main=run_convert.main)  # fmt: skip
        assert not (folder / command).exists()
    refused("a model with prefix, .*; start from its base",
            *options(folder, folder / "next"), f"--init-from={folder / 'prefix'}")  # fmt: skip


def _moved_biases(tree):
    return {
        name: _moved_biases(value) if isinstance(value, dict) else value + 1
        for name, value in tree.items()
        if name == "bias" or (isinstance(value, dict) and _has_bias(value))
    }


def _has_bias(tree):
    return any(path.split("/")[-1] == "bias" for path in flatten_dict(tree, sep="/"))


def _encoder(flat):
    return {path: array for path, array in flat.items() if path.startswith("encoder/")}


@pytest.mark.parametrize(
    ("more", "match"),
    [
        (["--method.rank=0"], "method.rank is 0; it must be at least 1"),
        (["--method.targets", "query", "nothing"], "method.targets is query nothing"),
        (["--frozen-layers=1"], "frozen_layers is 1, but method.name lora freezes the encoder"),
        (["--from-scratch"], "cannot be used with --from-scratch"),
        (["--method.prefix-length=7"], "method.prefix_length is for prefix, but method.name is"),
        (["--method.name=full", "--frozen-layers=-1"], "frozen_layers is -1"),
        (["--method.name=full", "--frozen-layers=2"], "frozen_layers is 2; the model has 1"),
        (["--optimizer.frozen", "encoder/nothing"], "names 'encoder/nothing'"),
    ],
)
def test_bad_settings_are_refused_before_any_work(folder, more, match):
    work_dir = folder / "refused"
    refused(match, *options(folder, work_dir), *more)
    assert not work_dir.exists()


def test_the_usual_rate_is_the_methods(folder):
    for name, rate in USUAL_RATES.items():
        assert from_command_line(options(folder, "x", name)).optimizer.learning_rate == rate
    config = from_command_line(options(folder, "x", "lora", "--optimizer.learning-rate=0.1"))
    assert config.optimizer.learning_rate == 0.1
