"""Small corpora for the tests of the input pipeline."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.corpus.shards import (
    Corpus,
    ShardWriter,
    corpus_metadata,
    open_corpus,
    token_dtype,
)
from data_pipeline.files import write_json

SPECIAL_IDS = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
FIRST_TOKEN = 5
VOCAB_SIZE = 100_000

# Documents as the token ids of their sentences.
Documents = Sequence[Sequence[Sequence[int]]]


def numbered_documents(sentence_lengths: Sequence[Sequence[int]]) -> Documents:
    """Documents with these sentence lengths in which every token id tells where it stands."""
    following = FIRST_TOKEN
    documents = []
    for lengths in sentence_lengths:
        ends = following + np.cumsum(lengths)
        documents.append(
            [
                list(range(end - length, end))
                for end, length in zip(ends.tolist(), lengths, strict=True)
            ]
        )
        following = int(ends[-1])
    assert following <= VOCAB_SIZE
    return documents


def varied_lengths(documents: int, seed: int) -> list[list[int]]:
    """Sentence lengths of documents of one to thirty sentences, some very long."""
    random = np.random.default_rng(seed)
    return [
        random.geometric(random.choice([0.3, 0.1, 0.03]), random.integers(1, 30)).tolist()
        for _ in range(documents)
    ]


@pytest.fixture
def make_corpus(tmp_path: Path) -> Callable[..., Corpus]:
    """A function that writes and opens a corpus of given documents, in `shards` training shards."""

    def make(train: Documents, heldout: Documents = (), shards: int = 1) -> Corpus:
        parts = [
            train[len(train) * i // shards : len(train) * (i + 1) // shards] for i in range(shards)
        ]
        shards_of = {}
        for name, pieces in (("train", parts), ("heldout", [heldout] if heldout else [])):
            entries = []
            for number, documents in enumerate(pieces):
                writer = ShardWriter(tmp_path, f"{name}-{number:05d}", token_dtype(VOCAB_SIZE))
                for document in documents:
                    tokens = np.concatenate([np.array(sentence) for sentence in document])
                    writer.add(tokens, np.array([len(sentence) for sentence in document]))
                    writer.end_document()
                entries.append(writer.finish())
            shards_of[name] = entries
        metadata = corpus_metadata(
            {"fingerprint": "of the tests"}, VOCAB_SIZE, SPECIAL_IDS, shards_of
        )
        write_json(tmp_path / "corpus.json", metadata)
        return open_corpus(tmp_path)

    return make
