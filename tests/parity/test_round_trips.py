"""What run_convert.py reads and writes, against `transformers` and against itself."""

import dataclasses
import logging

import jax
import numpy as np
import pytest
import torch
import transformers

import run_convert
from bert_jax.interchange.hugging_face import save_hugging_face
from bert_jax.interchange.torch_pickle import read_torch_file
from bert_jax.models.bert import Encoder
from bert_jax.models.config import BertConfig
from bert_jax.models.pretraining_heads import BertForPreTraining
from bert_jax.models.registry import config_from_saved
from bert_jax.training.saved_params import load_params
from data_pipeline.tokenization.loading import load_tokenizer
from tests.checkpoints import TINY, assert_same, random_params, tf1_tensors, write_tf1

TOLERANCE = {"rtol": 0, "atol": 1e-5}
TEXTS = [
    "The quick, brown fox jumps over the lazy dog!",
    "Unable to be seen: un " + "x" * 150 + " [MASK] walked",
    "café 狗 cats​walking \t ¡runs! é",
    "",
]


@pytest.fixture
def quiet():
    """Fails where transformers logs a warning."""
    records = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)
    assert not [record.getMessage() for record in records]


def load_quietly(architecture, folder):
    model, info = getattr(transformers, architecture).from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(info.values()), info
    return model.eval()


def model_inputs(config: BertConfig):
    random = np.random.default_rng(5)
    shape = (3, 10)
    lengths = np.array([[10], [7], [4]])
    mask = (np.arange(shape[1]) < lengths).astype(np.int32)
    return {
        "input_ids": random.integers(0, config.vocab_size, shape).astype(np.int32) * mask,
        "token_type_ids": (np.arange(shape[1]) >= 3).astype(np.int32) * mask,
        "attention_mask": mask,
    }


@pytest.mark.parametrize("gelu", ["erf", "tanh"])
def test_tf1_to_ours_to_hugging_face_and_back(tmp_path, quiet, gelu):
    params = random_params()
    write_tf1(tmp_path / "tf1", tf1_tensors(params))
    tf1, hf, back = (str(tmp_path / name) for name in ("tf1", "hf", "back"))
    ours = str(tmp_path / "ours")
    run_convert.main(["tf1", "--input", tf1, "--output", ours, "--gelu", gelu])
    run_convert.main(["to-hf", "--checkpoint", ours, "--output", hf])
    run_convert.main(["from-hf", "--input", hf, "--output", back])
    loaded, config, _ = load_params(tmp_path / "ours")
    again, config_again, _ = load_params(tmp_path / "back")
    assert_same(loaded, params)
    assert_same(again, params)
    assert config["model"] == config_again["model"]
    assert config["model"]["hidden_act"] == {"erf": "gelu", "tanh": "gelu_tanh"}[gelu]
    assert load_tokenizer(ours).description == load_tokenizer(back).description

    model = load_quietly("BertForPreTraining", hf)
    batch = model_inputs(TINY)
    positions = np.tile(np.arange(10, dtype=np.int32), (3, 1))
    outputs = BertForPreTraining(config_from_saved(config["model"])).apply(
        {"params": loaded}, batch | {"masked_positions": positions}
    )
    with torch.no_grad():
        expected = model(**{name: torch.tensor(x).long() for name, x in batch.items()})
    np.testing.assert_allclose(
        outputs.masked_lm_logits, expected.prediction_logits.numpy(), **TOLERANCE
    )
    np.testing.assert_allclose(
        outputs.next_sentence_logits, expected.seq_relationship_logits.numpy(), **TOLERANCE
    )


@pytest.mark.parametrize(
    ("architecture", "left_out"),
    [
        ("BertForMaskedLM", ["next-sentence head", "pooler"]),
        ("BertModel", ["masked-LM head", "next-sentence head"]),
        ("BertForNextSentencePrediction", ["masked-LM head"]),
    ],
)
def test_smaller_models_load_without_a_warning(tmp_path, quiet, architecture, left_out, capsys):
    write_tf1(tmp_path / "tf1", tf1_tensors(random_params()))
    arguments = ["--input", str(tmp_path / "tf1"), "--output", str(tmp_path / "ours")]
    run_convert.main(["tf1", *arguments])
    capsys.readouterr()
    arguments = ["--checkpoint", str(tmp_path / "ours"), "--output", str(tmp_path / "hf")]
    run_convert.main(["to-hf", *arguments, "--architecture", architecture])
    printed = capsys.readouterr().out.splitlines()
    assert sorted(line for line in printed if line.startswith("left out")) == [
        f"left out: {part}" for part in left_out
    ]
    load_quietly(architecture, tmp_path / "hf")


@pytest.mark.parametrize(
    ("architecture", "labels"),
    [
        ("BertForSequenceClassification", {0: "bad", 1: "fine", 2: "good"}),
        ("BertForTokenClassification", {0: "O", 1: "B-PER", 2: "I-PER"}),
        ("BertForQuestionAnswering", {}),
        ("BertForMultipleChoice", {}),
        ("BertForMaskedLM", {}),
        ("BertForPreTraining", {}),
        ("BertModel", {}),
    ],
)
def test_models_of_transformers_come_back_the_same(tmp_path, quiet, architecture, labels):
    values = {"id2label": labels, "label2id": {v: k for k, v in labels.items()}} if labels else {}
    sizes = dataclasses.asdict(TINY) | {"hidden_act": "gelu_new"} | values
    del sizes["dtype"]
    torch.manual_seed(1)
    model = getattr(transformers, architecture)(transformers.BertConfig(**sizes))
    model.save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxy"])
    )
    ours, again = tmp_path / "ours", tmp_path / "again"
    run_convert.main(["from-hf", "--input", str(tmp_path / "hf"), "--output", str(ours)])
    run_convert.main(["to-hf", "--checkpoint", str(ours), "--output", str(again)])
    copy = load_quietly(architecture, again)
    assert type(copy) is type(model)
    state, copied = model.state_dict(), copy.state_dict()
    assert state.keys() == copied.keys()
    assert all(torch.equal(state[name], copied[name]) for name in state)
    if labels:
        assert copy.config.id2label == labels
    assert copy.config.hidden_act == "gelu_pytorch_tanh"


@pytest.mark.parametrize(
    ("problem_type", "labels", "expected"),
    [
        ("regression", (), ["LABEL_0"]),
        ("multi_label_classification", ("a", "b", "c"), ["a", "b", "c"]),
        ("", ("bad", "good"), ["bad", "good"]),
        ("", (), ["LABEL_0", "LABEL_1", "LABEL_2"]),
    ],
)
def test_a_pipeline_gives_the_values_that_the_outputs_mean(
    tmp_path, quiet, problem_type, labels, expected
):
    write_tf1(tmp_path / "tf1", tf1_tensors(random_params()))
    source = str(tmp_path / "tf1")
    run_convert.main(["tf1", "--input", source, "--output", str(tmp_path / "base")])
    run_convert.main(
        ["to-hf", "--checkpoint", str(tmp_path / "base"), "--output", str(tmp_path / "hf")]
    )  # for its tokenizer
    (tmp_path / "hf" / "config.json").unlink()
    random = np.random.default_rng(0)
    params = {name: random_params()[name] for name in ("encoder", "pooler")}
    params["classifier"] = {
        "kernel": random.normal(size=(TINY.hidden_size, len(expected))).astype(np.float32),
        "bias": random.normal(size=len(expected)).astype(np.float32),
    }
    architecture = "BertForSequenceClassification"
    save_hugging_face(tmp_path / "hf", TINY, params, architecture, 0, labels, problem_type)
    model = load_quietly(architecture, tmp_path / "hf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    text = "a quick brown fox"
    pipeline = transformers.TextClassificationPipeline(model=model, tokenizer=tokenizer)
    found = {row["label"]: row["score"] for row in pipeline(text, top_k=None)}
    assert sorted(found) == sorted(expected)
    with torch.no_grad():
        logits = model(**tokenizer(text, return_tensors="pt")).logits[0].double().numpy()
    meant = {
        "regression": lambda x: x,
        "multi_label_classification": lambda x: 1 / (1 + np.exp(-x)),
        "": lambda x: np.exp(x) / np.exp(x).sum(),
    }[problem_type](logits)
    np.testing.assert_allclose([found[name] for name in expected], meant, atol=1e-6)


@pytest.mark.parametrize("case", ["lower", "keep"])
def test_auto_tokenizer_gives_the_same_ids(tmp_path, quiet, case):
    write_tf1(tmp_path / "tf1", tf1_tensors(random_params()))
    ours, hf = str(tmp_path / "ours"), str(tmp_path / "hf")
    run_convert.main(["tf1", "--input", str(tmp_path / "tf1"), "--output", ours, "--case", case])
    run_convert.main(["to-hf", "--checkpoint", ours, "--output", hf])
    tokenizer, theirs = load_tokenizer(ours), transformers.AutoTokenizer.from_pretrained(hf)
    cls, sep = tokenizer.special_ids["cls"], tokenizer.special_ids["sep"]
    for text in TEXTS:
        ids = tokenizer.encode(text, allow_special=True)
        assert theirs(text)["input_ids"] == [cls, *ids, sep], text
    pair = theirs("a cat", "the dog runs")
    assert pair["token_type_ids"] == [0] * 4 + [1] * 4
    assert theirs.mask_token == "[MASK]"
    assert theirs.model_max_length == TINY.max_position_embeddings


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_files_of_torch(tmp_path, zipped, dtype):
    torch.manual_seed(2)
    base = torch.randn(6, 5).to(dtype)
    state = {
        "plain": base,
        "transposed": base.T,
        "part": base[2:4, 1:],
        "scalar": torch.tensor(3.5).to(dtype),
        "empty": torch.zeros(0, 4).to(dtype),
        "parameter": torch.nn.Parameter(base.clone()),
        "position_ids": torch.arange(7)[None],
    }
    module = torch.nn.Linear(3, 2)
    torch.save(state, tmp_path / "a.bin", _use_new_zipfile_serialization=zipped)
    torch.save(module.state_dict(), tmp_path / "b.bin", _use_new_zipfile_serialization=zipped)
    ours = read_torch_file(tmp_path / "a.bin")
    assert ours.keys() == state.keys()
    for name, tensor in state.items():
        exact = tensor.detach().float().numpy() if dtype == torch.bfloat16 else tensor.detach()
        exact = np.asarray(exact, None if name != "position_ids" else np.int64)
        np.testing.assert_array_equal(ours[name], exact, strict=name != "position_ids")
    ours = read_torch_file(tmp_path / "b.bin")
    np.testing.assert_array_equal(ours["weight"], module.weight.detach().numpy(), strict=True)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "shards of safetensors", "bfloat16"])
def test_other_files_of_transformers(tmp_path, file):
    sizes = dataclasses.asdict(TINY)
    del sizes["dtype"]
    torch.manual_seed(1)
    model = transformers.BertForPreTraining(transformers.BertConfig(**sizes))
    if file == "bfloat16":
        model = model.bfloat16()
    folder = tmp_path / "hf"
    model.save_pretrained(folder, max_shard_size="2KB" if "shards" in file else "5GB")
    if "shards" in file:
        assert len(list(folder.glob("model-*.safetensors"))) > 1
    if file == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / file)
    (folder / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxy"])
    )
    run_convert.main(["from-hf", "--input", str(folder), "--output", str(tmp_path / "ours")])
    params, config, _ = load_params(tmp_path / "ours")
    batch = model_inputs(TINY)
    hidden = Encoder(config_from_saved(config["model"])).apply(
        {"params": params["encoder"]}, *batch.values()
    )
    with torch.no_grad():
        expected = (
            model.float().eval().bert(**{k: torch.tensor(x).long() for k, x in batch.items()})
        )
    np.testing.assert_allclose(hidden, expected.last_hidden_state.numpy(), **TOLERANCE)
    assert len(jax.tree.leaves(params)) == len(list(model.named_parameters()))
