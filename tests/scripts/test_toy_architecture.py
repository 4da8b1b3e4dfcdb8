"""A family of encoders added from outside the packages, through all that can be done with one.

Only its record enters the registry, and a recipe the list of recipes; `tests/toy_architecture.py`
has all that is its own.
"""

import json
import shutil

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file

from bert_jax.analysis.compile_ahead import CHIPS, estimate
from bert_jax.errors import UserError
from bert_jax.models.registry import ARCHITECTURES
from bert_jax.objectives.objective import BatchSize
from bert_jax.objectives.pretraining import PretrainingObjective
from bert_jax.parallel.config import MeshConfig
from bert_jax.parallel.sharding import make_mesh
from bert_jax.training.config import LoopConfig, OptimizerConfig
from bert_jax.training.optimizer import make_optimizer
from bert_jax.training.saved_params import load_params
from commands.convert.main import main as convert
from commands.finetune.main import main as finetune
from commands.predict.main import main as predict
from commands.pretrain.main import main as pretrain
from commands.saved_model import load_run, open_model
from configs.pretrain import Phase, PretrainConfig
from configs.recipes import RECIPES
from data_pipeline.pretraining.config import DataConfig
from tests.scripts.finetuning import write_texts
from tests.scripts.runs import assert_same_run, mistake
from tests.toy_architecture import TOY, ToyConfig


def toy() -> PretrainConfig:
    """A toy of another family."""
    return PretrainConfig(
        model=ToyConfig(),
        data=DataConfig(pairs="full_sentences", short_sequence_probability=0.0),
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=2),
        phases=(Phase(steps=12, sequence_length=24, batch_size=8, max_predictions=5),),
        loop=LoopConfig(log_every=2, evaluate_every=4, save_every=4),
        evaluation_examples=8,
    )


@pytest.fixture(scope="module", autouse=True)
def registered():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "toy", TOY)
        patch.setitem(RECIPES, "toy", toy)
        yield


@pytest.fixture(scope="module")
def options(corpus):
    size = json.loads((corpus / "corpus.json").read_text())["vocab_size"]
    return ["toy", f"--corpus={corpus}", f"--model.vocab-size={size}", "--model.gate-size=20"]


@pytest.fixture(scope="module")
def trained(options, tmp_path_factory):
    """The work folder of a pre-training."""
    folder = tmp_path_factory.mktemp("toy") / "run"
    pretrain([*options, f"--work-dir={folder}"])
    return folder


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    for number, name in enumerate(("train", "dev")):
        write_texts(folder / f"{name}.tsv", 24, seed=number)
    return [f"--train={folder / 'train.tsv'}", f"--dev={folder / 'dev.tsv'}"]


@pytest.fixture(scope="module")
def tuned(trained, tables, tmp_path_factory):
    """Runs a fine-tuning with some options and gives its work folder."""

    def run(name, *more):
        folder = tmp_path_factory.mktemp("tuned") / name
        finetune([*common(trained, tables, folder), *more])
        return folder

    return run


def common(trained, tables, folder):
    return [
        "classify",
        f"--init-from={trained}",
        *tables,
        "--columns.first=sentence",
        f"--work-dir={folder}",
        "--sequence-length=16",
        "--batch-size=8",
        "--epochs=1",
    ]


def test_pretraining_learns_and_names_the_architecture(trained):
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    losses = [row["masked_lm_loss"] for row in rows if row["split"] == "eval"]
    assert losses[-1] < losses[0] - 0.1
    saved = json.loads((trained / "config.json").read_text())
    params, of_checkpoint, _ = load_params(trained)
    for model in (saved["model"], of_checkpoint["model"]):
        assert model["model_type"] == "toy"
        assert model["gate_size"] == 20
    assert set(params) == {"encoder", "masked_lm"}
    assert "mixer_norm" not in params["encoder"]["block_0"]


def test_resuming_is_exact(trained, options, tmp_path):
    folder = tmp_path / "resumed"
    shutil.copytree(trained, folder)
    (folder / "summary.json").unlink()
    shutil.rmtree(folder / "checkpoints" / "12")
    assert load_params(folder)[2] == 8
    pretrain([*options, f"--work-dir={folder}"])
    assert_same_run(folder, trained)


def test_another_architecture_in_its_folder_is_another_run(trained, corpus, capsys):
    changed = ["base", f"--corpus={corpus}", f"--work-dir={trained}"]
    assert "model.model_type: toy -> bert" in mistake(capsys, pretrain, changed)


def test_the_dry_run(options, tmp_path, capsys):
    pretrain([*options, f"--work-dir={tmp_path / 'none'}", "--dry-run"])
    output = capsys.readouterr().out
    assert "model.model_type = toy" in output
    assert "memory of a step" in output


def test_compiling_ahead():
    """By the compiler of this machine; that of a TPU takes the same step."""
    config = ToyConfig()
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    optimizer = make_optimizer(OptimizerConfig(), lambda step: 1e-3)
    size = BatchSize(rows=4, length=16, predictions=3)
    objective = PretrainingObjective(config, None)
    found = estimate(objective, config, optimizer, mesh, CHIPS["v5e"], size)
    blocks = 2 * (4 * 16 * 16 + 3 * 16 * 24) + 4 * 16  # norms: one less in the first
    assert found.parameters == 60 * 16 + blocks + 60
    products = 2 * 16 * (4 * 16 * 16 + 3 * 16 * 24 + 2 * 16 * 16) + 3 * 16 * 60
    assert found.model_flops == 3 * 4 * 2 * products
    assert found.peak > found.state > 12 * found.parameters


def test_layers_below_learn_more_slowly():
    params = {
        "encoder": {
            "tokens": {"table": np.ones(2)},
            "block_0": {"gated": {"up": {"kernel": np.ones(2)}}},
            "block_1": {"gated": {"up": {"kernel": np.ones(2)}}},
            "final_norm": {"scale": np.ones(2)},
        },
        "adapters": {"encoder": {"block_0": {"gated": {"gate": {"a": np.ones(2)}}}}},
    }
    optimizers = [
        make_optimizer(
            OptimizerConfig(layer_decay=decay), lambda step: 1.0, TOY.blocks(ToyConfig())
        )
        for decay in (0.5, 1.0)
    ]
    slow, fast = (
        flatten_dict(each.update(params, each.init(params), params)[0], sep="/")
        for each in optimizers
    )
    ratios = {path: float((slow[path] / fast[path])[0]) for path in slow}
    assert ratios == {
        "encoder/tokens/table": 0.125,
        "encoder/block_0/gated/up/kernel": 0.25,
        "adapters/encoder/block_0/gated/gate/a": 0.25,
        "encoder/block_1/gated/up/kernel": 0.5,
        "encoder/final_norm/scale": 1.0,
    }


def test_a_task_with_frozen_blocks_layer_decay_and_attacks_on_the_word_table(trained, tuned):
    folder = tuned(
        "frozen",
        "--frozen-layers=1",
        "--optimizer.layer-decay=0.5",
        "--regularization.adversarial=0.5",
    )
    before, after = (flatten_dict(load_params(x)[0], sep="/") for x in (trained, folder))
    assert "classifier/kernel" in after
    same = {path for path in before.keys() & after.keys() if (before[path] == after[path]).all()}
    below = ("encoder/tokens/", "encoder/block_0/")
    assert same == {path for path in before if path.startswith(below)}


def test_lora_prediction_merging_and_export(tuned, tmp_path, capsys):
    folder = tuned("lora", "--method.name=lora", "--method.targets", "query", "gate")
    params, _, _ = load_run(folder)
    assert set(params["adapters"]["encoder"]["block_1"]["gated"]) == {"gate"}
    merged = tmp_path / "merged"
    convert(["merge", f"--checkpoint={folder}", f"--output={merged}"])
    answers = []
    for checkpoint in (folder, merged):
        capsys.readouterr()
        predict(["classify", f"--checkpoint={checkpoint}", "a small cat", "the dog sees"])
        lines = capsys.readouterr().out.splitlines()
        answers.append([json.loads(line)["probabilities"]["cat"] for line in lines])
    assert len(answers[0]) == 2
    np.testing.assert_allclose(*answers, atol=1e-5)

    exported = tmp_path / "exported"
    convert(["to-hf", f"--checkpoint={merged}", f"--output={exported}"])
    values = json.loads((exported / "config.json").read_text())
    assert values["architectures"] == ["ToyForSequenceClassification"]
    assert values["model_type"] == "toy"
    tensors = load_file(exported / "model.safetensors")
    whole = load_params(merged)[0]
    gate = whole["encoder"]["block_1"]["gated"]["gate"]["kernel"]
    np.testing.assert_array_equal(tensors["toy.layers.1.gated.gate.weight"], gate.T)
    back = open_model(exported)
    jax.tree.map(np.testing.assert_array_equal, back.params, whole)
    assert back.model == open_model(merged).model
    assert back.saved["architecture"] == "ToyForSequenceClassification"


def test_filling_masks(trained, capsys):
    predict(["fill-mask", f"--checkpoint={trained}", "the [MASK] sees", "--top=3"])
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_what_it_has_no_place_for(trained, tables, options, tmp_path, capsys):
    pairs = [*options, f"--work-dir={tmp_path / 'pairs'}", "--data.pairs=next_sentence"]
    assert "toy does not have; add --data.pairs" in mistake(capsys, pretrain, pairs)
    tuning = common(trained, tables, tmp_path / "tuned")
    for more, words in (
        (["--method.name=houlsby"], "houlsby, which the architecture toy does not support"),
        (["--method.name=lora"], "query value; a model of the architecture toy has query, gate"),
    ):
        assert words in mistake(capsys, finetune, [*tuning, *more])
    exported = tmp_path / "exported"
    convert(["to-hf", f"--checkpoint={trained}", f"--output={exported}"])
    longer = ["from-hf", f"--input={exported}", f"--output={tmp_path / 'x'}", "--positions=64"]
    assert "architecture toy has no position table" in mistake(capsys, convert, longer)


def test_without_its_record_it_is_unknown_in_one_line(trained, monkeypatch, capsys):
    monkeypatch.delitem(ARCHITECTURES, "toy")
    words = "'toy', which is unknown; known are bert"
    with pytest.raises(UserError, match=words):
        open_model(trained)
    assert words in mistake(capsys, predict, ["fill-mask", f"--checkpoint={trained}", "a [MASK]"])
    assert words in mistake(capsys, pretrain, ["adapt", f"--init-from={trained}", "--corpus=x"])
