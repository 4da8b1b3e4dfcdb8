"""run_convert.py from the command line: what is written, what is said, what is refused."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

import run_convert
from bert_jax.errors import UserError
from bert_jax.interchange.names import to_tensors
from bert_jax.training.saved_params import load_adam, load_params
from data_pipeline.errors import DataError
from data_pipeline.tokenization.loading import load_tokenizer
from tests.checkpoints import (
    PIECES,
    TINY,
    assert_same,
    random_params,
    tf1_tensors,
    write_hugging_face,
    write_tf1,
    write_vocab,
)
from tests.processes import ROOT, environment

SHARED = os.environ.get("BERT_JAX_SHARED")


@pytest.fixture
def folders(tmp_path):
    return tmp_path / "input", tmp_path / "output"


def convert(command, folders, *options):
    source, output = map(str, folders)
    name = "--checkpoint" if command == "to-hf" else "--input"
    run_convert.main([command, name, source, "--output", output, *map(str, options)])


def refused(command, folders, *options, match):
    """The message of a refusal, which leaves nothing behind."""
    before = sorted(folders[0].parent.rglob("*"))
    with pytest.raises((UserError, DataError), match=match) as caught:
        convert(command, folders, *options)
    assert "\n" not in str(caught.value)
    assert sorted(folders[0].parent.rglob("*")) == before


def test_tf1_and_its_summary(folders, capsys):
    params = random_params()
    write_tf1(folders[0], tf1_tensors(params, (params, params), step=7))
    convert("tf1", folders)
    loaded, config, step = load_params(folders[1])
    assert_same(loaded, params)
    assert step == 0
    assert load_adam(folders[1]) is None
    assert config["architecture"] == "BertForPreTraining"
    assert json.loads((folders[1] / "config.json").read_text()) == config
    assert load_tokenizer(folders[1]).vocab_size == len(PIECES)
    printed = capsys.readouterr().out
    assert "found: masked-LM head" in printed
    assert "GELU: the erf form" in printed
    assert "tokenizer: 30 pieces, lower-cased, since no piece" in printed
    assert f"run_predict.py fill-mask --checkpoint {folders[1]}" in printed
    vocab = folders[1] / "vocab.txt"
    assert f"data_pipeline.prepare --vocab {vocab} --input FILES --output CORPUS\n" in printed
    assert f"run_pretrain.py adapt --init-from {folders[1]} --corpus CORPUS\n" in printed


def test_a_cased_model_says_how_to_prepare_for_it(folders, capsys):
    write_hugging_face(folders[0], to_tensors(random_params(), "hugging_face", TINY))
    convert("from-hf", folders, "--case", "keep")
    printed = capsys.readouterr().out
    assert f"--vocab {folders[1] / 'vocab.txt'} --no-lowercase --input FILES" in printed


def test_optimizer_state(folders, capsys):
    params, mu, nu = (random_params(seed=seed) for seed in range(3))
    write_tf1(folders[0], tf1_tensors(params, (mu, nu), step=7))
    convert("tf1", folders, "--optimizer-state")
    adam = load_adam(folders[1])
    assert_same(adam.mu, mu)
    assert_same(adam.nu, nu)
    assert load_params(folders[1])[2] == 7
    assert "Adam's moments, step 7" in capsys.readouterr().out


def test_optimizer_state_must_be_there(folders):
    write_tf1(folders[0], tf1_tensors(random_params()))
    refused("tf1", folders, "--optimizer-state", match="no global_step")
    write_tf1(folders[0], tf1_tensors(random_params()) | {"global_step": np.int64(3)})
    refused("tf1", folders, "--optimizer-state", match=r"adam_m: .*missing: bert/emb.* leave out")
    refused("tf1", folders, "--optimizer-state", "--positions", 32, match="leave out .*--positions")


def test_one_of_several_checkpoints(folders):
    params, later = random_params(seed=1), random_params(seed=2)
    write_tf1(folders[0], tf1_tensors(later))
    for path in list(folders[0].glob("bert_model.ckpt.*")):
        path.rename(path.with_name(path.name.replace("bert_model.ckpt", "model.ckpt-20")))
    write_tf1(folders[0], tf1_tensors(params))
    refused("tf1", folders, match=r"holds bert_model\.ckpt, model\.ckpt-20; add --name")
    refused("tf1", folders, "--name", "model.ckpt-30", match="add --name with one of them")
    convert("tf1", folders, "--name", "model.ckpt-20")
    assert_same(load_params(folders[1])[0], later)


@pytest.mark.skipif(not SHARED, reason="BERT_JAX_SHARED is not set")
def test_real_tf1_checkpoint_of_another_implementation(folders, capsys):
    import tensorflow as tf

    source = Path(SHARED) / "data" / "tf1_tiny_checkpoint"
    convert("tf1", (source, folders[1]), "--optimizer-state")
    params, config, step = load_params(folders[1])
    reader = tf.train.load_checkpoint(str(source / "bert_model.ckpt"))
    adam = load_adam(folders[1])
    assert step == 20 == reader.get_tensor("global_step")
    for tree, suffix in ((params, ""), (adam.mu, "/adam_m"), (adam.nu, "/adam_v")):
        tensors = to_tensors(tree, "tf1", TINY)
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(tensor, reader.get_tensor(name + suffix), strict=True)
    assert len(jax.tree.leaves(params)) * 3 + 1 == len(reader.get_variable_to_shape_map())
    assert config["model"]["num_attention_heads"] == 4


def test_new_tokens_and_positions(folders, tmp_path, capsys):
    params = random_params()
    write_hugging_face(folders[0], to_tensors(params, "hugging_face", TINY))
    (tmp_path / "new.txt").write_text("otter\nzebra\n")
    convert("from-hf", folders, "--new-tokens", tmp_path / "new.txt", "--positions", 64)
    loaded, config, _ = load_params(folders[1])
    assert config["model"]["vocab_size"] == 32
    assert config["model"]["max_position_embeddings"] == 64
    words = loaded["encoder"]["embeddings"]["word_embeddings"]
    np.testing.assert_array_equal(words[:30], params["encoder"]["embeddings"]["word_embeddings"])
    assert words.shape == (32, 8)
    tokenizer = load_tokenizer(folders[1])
    assert tokenizer.encode("zebra") == [31]
    printed = capsys.readouterr().out
    assert "vocabulary: from 30 to 32 rows; the new ones, from row 30 on, are the mean" in printed
    assert "positions: from 16 to 64, repeated" in printed


@pytest.mark.parametrize(
    ("lines", "match"),
    [("the\n", "'the' is in the vocabulary already"), ("two words\n", "has white space")],
)
def test_new_tokens_must_be_new_pieces(folders, tmp_path, lines, match):
    write_hugging_face(folders[0], to_tensors(random_params(), "hugging_face", TINY))
    (tmp_path / "new.txt").write_text(lines)
    refused("from-hf", folders, "--new-tokens", tmp_path / "new.txt", match=match)


def test_a_vocabulary_of_another_length(folders):
    write_hugging_face(folders[0], to_tensors(random_params(), "hugging_face", TINY))
    write_vocab(folders[0], PIECES[:-2])
    refused("from-hf", folders, match=r"has 28 pieces, the embedding 30 rows.*--resize-vocabulary")
    convert("from-hf", folders, "--resize-vocabulary")
    assert load_params(folders[1])[1]["model"]["vocab_size"] == 28


def test_new_tokens_do_not_take_the_rows_of_padding(folders, tmp_path, capsys):
    """28 pieces, 30 rows, 2 new tokens: the two rows without a piece count for nothing."""
    params = random_params()
    write_hugging_face(folders[0], to_tensors(params, "hugging_face", TINY))
    write_vocab(folders[0], PIECES[:28])
    (tmp_path / "new.txt").write_text("otter\nzebra\n")
    convert("from-hf", folders, "--new-tokens", tmp_path / "new.txt", "--resize-vocabulary")
    words, loaded = (
        tree["encoder"]["embeddings"]["word_embeddings"]
        for tree in (params, load_params(folders[1])[0])
    )
    np.testing.assert_array_equal(loaded[:28], words[:28])
    np.testing.assert_allclose(loaded[28:], [words[:28].mean(0)] * 2, atol=1e-7)
    assert "from 30 to 30 rows; the new ones, from row 28 on" in capsys.readouterr().out


def test_headless_and_back(folders, tmp_path, capsys):
    params = random_params()
    tensors = {
        name.removeprefix("bert."): tensor
        for name, tensor in to_tensors(params, "hugging_face", TINY).items()
        if name.startswith("bert.")
    } | {"my_head.weight": np.zeros((2, 8), np.float32)}
    write_hugging_face(folders[0], tensors, architectures=["BertModel"])
    convert("from-hf", folders)
    printed = capsys.readouterr().out
    assert "not found: masked-LM head; it starts fresh" in printed
    assert "not found: next-sentence head; it starts fresh" in printed
    assert "not used: my_head.weight" in printed
    back = (folders[1], tmp_path / "back")
    refused(
        "to-hf", back, "--architecture", "BertForMaskedLM",
        match=r"BertForMaskedLM needs the masked-LM head.*can be written as BertModel",
    )  # fmt: skip
    refused("to-hf", back, "--architecture", "Bert", match=r"Bert is unknown; there are: BertFor")
    convert("to-hf", back)
    values = json.loads((tmp_path / "back" / "config.json").read_text())
    assert values["architectures"] == ["BertModel"]
    convert("from-hf", (tmp_path / "back", tmp_path / "again"))
    assert_same(load_params(tmp_path / "again")[0], load_params(folders[1])[0])


def test_the_id_of_pad_is_that_of_the_vocabulary(folders, tmp_path):
    write_hugging_face(folders[0], to_tensors(random_params(), "hugging_face", TINY))
    write_vocab(folders[0], [*PIECES[1:4], PIECES[0], *PIECES[4:]])
    convert("from-hf", folders)
    convert("to-hf", (folders[1], tmp_path / "back"))
    assert json.loads((tmp_path / "back" / "config.json").read_text())["pad_token_id"] == 3


def test_a_checkpoint_that_does_not_fit(folders):
    tensors = to_tensors(random_params(), "hugging_face", TINY)
    name = "bert.encoder.layer.0.output.dense.weight"
    tensors[name] = tensors[name][:, 1:]
    write_hugging_face(folders[0], tensors)
    refused("from-hf", folders, match=r"layer\.0\.output\.dense\.weight \[8, 11\] instead of")


@pytest.mark.parametrize("keep", [0, 7, 300, -1])
def test_a_truncated_safetensors_file(folders, keep):
    write_hugging_face(folders[0], to_tensors(random_params(), "hugging_face", TINY))
    path = folders[0] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    refused("from-hf", folders, match=r"model\.safetensors is damaged or cut off")


def test_a_truncated_tf1_checkpoint(folders):
    write_tf1(folders[0], tf1_tensors(random_params()))
    path = folders[0] / "bert_model.ckpt.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-100])
    refused("tf1", folders, match=r"bert_model\.ckpt cannot be read.*copy all its files again")
    path.unlink()
    refused("tf1", folders, match=r"bert_model\.ckpt cannot be read")
    (folders[0] / "bert_model.ckpt.index").unlink()
    refused("tf1", folders, match="no TF1 checkpoint")


def test_a_pickle_that_would_run_code(folders, tmp_path):
    class RunsCode:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "it ran"),)

    write_hugging_face(folders[0], {})
    (folders[0] / "model.safetensors").unlink()
    with zipfile.ZipFile(folders[0] / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weight": RunsCode()}))
    refused("from-hf", folders, match=r"wants to load posix\.mkdir, which may run code")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model_type": "roberta"}, "model type is 'roberta'"),
        ({"hidden_act": "silu"}, "hidden_act is 'silu'"),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers is 1,000,000,000,000"),
        ({"position_embedding_type": "relative_key_query"}, "relative_key_query"),
    ],
)
def test_another_model(folders, changes, match):
    write_hugging_face(folders[0], to_tensors(random_params(), "hugging_face", TINY), **changes)
    refused("from-hf", folders, match=match)


@pytest.mark.parametrize("shards", [["a"], {"a": ["b"]}, {"a": ".."}, {"a": 1}])
def test_a_damaged_index(folders, shards):
    write_hugging_face(folders[0], to_tensors(random_params(), "hugging_face", TINY))
    (folders[0] / "model.safetensors").unlink()
    path = folders[0] / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": shards}))
    refused("from-hf", folders, match="no weight_map from names to files|damaged or cut off")


def test_damaged_labels(folders):
    params = {"encoder": random_params()["encoder"]}
    params["classifier"] = {"kernel": np.ones((8, 3), np.float32), "bias": np.zeros(3, np.float32)}
    tensors = to_tensors(params, "hugging_face", TINY)
    write_hugging_face(folders[0], tensors, id2label=["bad", "fine", "good"])
    refused("from-hf", folders, match=r"id2label is \['bad', 'fine', 'good'\]; it must be")


def test_missing_files_and_used_folders(folders):
    refused("from-hf", folders, match="is not a folder")
    folders[0].mkdir()
    refused("from-hf", folders, match=r"cannot read .*config\.json: No such file")
    (folders[0] / "config.json").write_text("{")
    refused("from-hf", folders, match=r"config\.json is not JSON")
    refused("tf1", folders, match=r"bert_config\.json")
    write_hugging_face(folders[0], to_tensors(random_params(), "hugging_face", TINY))
    (folders[0] / "vocab.txt").unlink()
    refused("from-hf", folders, match=r"neither vocab\.txt nor tokenizer\.json")
    write_vocab(folders[0])
    refused("from-hf", folders, "--positions", 8, match="--positions is 8; the model has 16")
    folders[1].mkdir()
    convert("from-hf", folders)
    refused("from-hf", folders, match="exists and is not empty")
    refused("to-hf", (folders[0], folders[1] / "hf"), match="holds no checkpoint")
    with pytest.raises(UserError, match="unknown command 'to-tf1'"):
        run_convert.main(["to-tf1"])


def test_nothing_beside_the_output_is_touched(folders):
    """Not even where it has the name that a half-written folder might have."""
    write_hugging_face(folders[0], to_tensors(random_params(), "hugging_face", TINY))
    other = folders[1].with_name("output.partial")
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    folders[1].mkdir()
    folders[1].with_name("link").symlink_to(folders[1])
    convert("from-hf", (folders[0], folders[1].with_name("link")))
    assert load_params(folders[1])[2] == 0
    assert (other / "thesis.txt").read_text() == "years of work"
    assert folders[1].stat().st_mode == other.stat().st_mode
    assert {path.name for path in other.parent.iterdir()} == {
        "input", "output", "output.partial", "link"
    }  # fmt: skip


@pytest.mark.parametrize("output", [".", "../here"])
def test_the_current_folder_is_refused(folders, tmp_path, monkeypatch, output):
    write_hugging_face(folders[0], to_tensors(random_params(), "hugging_face", TINY))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    refused("from-hf", (folders[0], output), match=f"--output {output} is the current folder")


def test_the_command_line_and_fill_mask(folders):
    """Processes of their own: exit codes, one line of error, a converted model answers."""
    write_tf1(folders[0], tf1_tensors(random_params()))

    def command(script, *arguments):
        return subprocess.run(
            [sys.executable, ROOT / script, *map(str, arguments)],
            env=environment(), capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    source, output = folders
    result = command("run_convert.py", "tf1", "--input", source, "--output", output)
    assert result.returncode == 0, result.stderr
    result = command("run_convert.py", "tf1", "--input", source, "--output", output)
    assert result.returncode == 2
    expected = f"error: --output {output} exists and is not empty; give another, or delete it\n"
    assert result.stderr == expected
    result = command("run_predict.py", "fill-mask", "--checkpoint", output, "a [MASK] runs")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 6
