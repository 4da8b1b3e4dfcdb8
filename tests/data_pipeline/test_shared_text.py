"""Real books and Chinese articles, where BERT_JAX_SHARED points to the folder that holds them."""

import lzma
import os
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.prepare import PrepareConfig, prepare
from data_pipeline.pretraining.batches import DataConfig, batches
from data_pipeline.tokenization.loading import load_tokenizer

SHARED = os.environ.get("BERT_JAX_SHARED")
CHARACTERS = 300_000


@pytest.mark.skipif(not SHARED, reason="BERT_JAX_SHARED is not set")
@pytest.mark.parametrize(
    ("name", "language", "vocab", "marks"),
    [
        ("en_books", "en", "bert-base-uncased-vocab.txt", ".!?\"'”’)"),
        ("zh_wiki", "zh", "bert-base-chinese-vocab.txt", "。！？；」』”）》"),
    ],
)
def test_real_text_becomes_a_sound_corpus(tmp_path, name, language, vocab, marks):
    folder = Path(SHARED) / "data"
    with lzma.open(folder / f"{name}.txt.xz", "rt", encoding="utf-8") as file:
        text = file.read(CHARACTERS)
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    corpus = prepare(
        PrepareConfig(
            input=(str(tmp_path / "text.txt"),),
            output=tmp_path / "corpus",
            language=language,
            vocab=folder / "vocab" / vocab,
            heldout_fraction=0.2,
            processes=1,
        )
    )
    documents = sum(corpus.split(split).documents for split in ("train", "heldout"))
    expected = len({block for block in text.split("\n\n") if block.strip()})
    assert documents == pytest.approx(expected, abs=2)
    assert corpus.metadata["unknown_rate"] < 0.01

    # Most sentences end with a mark that ends sentences, and none holds a whole page.
    tokenizer = load_tokenizer(corpus.folder)
    shard = corpus.split("train").shards[0]
    last = [tokenizer.id_to_piece(int(shard.tokens[end - 1])) for end in shard.sentences[1:]]
    assert np.mean([piece[-1] in marks for piece in last]) > 0.7  # the rest are headings
    assert 10 < np.diff(shard.sentences.astype(np.int64)).mean() < 80

    stream = batches(
        corpus, DataConfig(), batch_size=16, sequence_length=64, max_predictions=10, seed=0
    )
    batch = next(stream)
    assert batch["attention_mask"].mean() > 0.8
    assert 0.2 < batch["next_sentence_labels"].mean() < 0.9
