import numpy as np
import pytest

from data_pipeline.corpus.shards import (
    FORMAT_VERSION,
    ShardWriter,
    corpus_metadata,
    open_corpus,
    token_dtype,
)
from data_pipeline.errors import DataError
from data_pipeline.files import write_json


def _write(folder, documents, name="train-00000"):
    """A shard from documents given as lists of sentences of ids; None is a document thrown away."""
    shard = ShardWriter(folder, name, np.dtype(np.uint16))
    for document, keep in documents:
        for sentence in document:
            shard.add(np.array(sentence), np.array([len(sentence)]))
        shard.end_document(keep)
    return shard.finish()


def _corpus(folder):
    documents = [([[1, 2], [3]], True), ([[9, 9]], False), ([], True), ([[4], [5, 6, 7]], True)]
    entry = _write(folder, documents)
    special_ids = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    metadata = corpus_metadata({"fingerprint": "of the test"}, 10, special_ids, {"train": [entry]})
    write_json(folder / "corpus.json", metadata)
    return entry


def test_what_is_written_is_read(tmp_path):
    entry = _corpus(tmp_path)
    assert (entry["documents"], entry["sentences"], entry["tokens"]) == (2, 4, 7)
    split = open_corpus(tmp_path).split("train")
    assert (split.documents, split.sentences, split.tokens) == (2, 4, 7)
    (shard,) = split.shards
    assert shard.tokens.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert shard.sentences.tolist() == [0, 2, 3, 4, 7]
    assert shard.documents.tolist() == [0, 2, 4]
    assert isinstance(shard.tokens, np.memmap)
    assert open_corpus(tmp_path).split("heldout").documents == 0
    assert not list(tmp_path.glob("*.tmp"))


def test_token_dtype():
    assert token_dtype(65_536) == np.uint16
    assert token_dtype(65_537) == np.uint32


def test_an_unfinished_shard_leaves_nothing(tmp_path):
    shard = ShardWriter(tmp_path, "train-00000", np.dtype(np.uint16))
    shard.add(np.array([1]), np.array([1]))
    assert not list(tmp_path.glob("*.npy"))
    shard.discard()
    assert not list(tmp_path.iterdir())


def test_folders_that_are_no_corpus_are_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        open_corpus(tmp_path / "none")
    with pytest.raises(DataError, match=r"has no corpus\.json"):
        open_corpus(tmp_path)
    (tmp_path / "corpus.json").write_text("[1, 2")
    with pytest.raises(DataError, match=r"corpus\.json is not JSON.*prepare"):
        open_corpus(tmp_path)
    write_json(tmp_path / "corpus.json", {"format_version": FORMAT_VERSION + 1})
    with pytest.raises(DataError, match=f"version {FORMAT_VERSION + 1}, .*reads version"):
        open_corpus(tmp_path)


def test_damaged_shards_are_refused(tmp_path):
    _corpus(tmp_path)
    path = tmp_path / "train-00000.tokens.npy"
    whole = path.read_bytes()

    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match=r"tokens\.npy has checksum"):
        open_corpus(tmp_path)
    assert open_corpus(tmp_path, verify=False).vocab_size == 10

    path.write_bytes(whole[:-2])
    with pytest.raises(DataError, match=r"tokens\.npy has .* bytes, corpus\.json says"):
        open_corpus(tmp_path, verify=False)
    path.unlink()
    with pytest.raises(DataError, match="is missing"):
        open_corpus(tmp_path)
