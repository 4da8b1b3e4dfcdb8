"""The corpus on disk: a folder of memory-mapped arrays that `prepare` writes and training reads.

docs/data.md lists the files. corpus.json is written last: a folder without it is not a corpus.
"""

import dataclasses
import hashlib
import json
import mmap
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.files import file_checksum, read_json

FORMAT_VERSION = 1
SPLITS = ("train", "heldout")
ARRAYS = ("tokens", "sentences", "documents")
COUNTS = ("documents", "sentences", "tokens")
WORDS = "words"  # one more array, in a corpus whose words a segmenter found
# Above this many bytes, opening checks only lengths: reading every byte of a large corpus would
# delay each start by minutes. `python -m data_pipeline.prepare --verify DIR` checks everything.
CHECKSUM_LIMIT_BYTES = 1 << 30


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest dtype that holds every token id: uint16 up to 65,536 pieces, else uint32."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def corpus_metadata(
    tokenizer: dict[str, Any],
    vocab_size: int,
    special_ids: dict[str, int],
    shards: dict[str, list[dict[str, Any]]],
) -> dict[str, Any]:
    """What a `corpus.json` must say.

    `tokenizer` is its description, of which "fingerprint" is required. `shards` has the entries
    from `ShardWriter.finish` by split; a split may be missing.
    """
    splits = {}
    for split in SPLITS:
        found = shards.get(split, [])
        splits[split] = {name: sum(shard[name] for shard in found) for name in COUNTS}
        splits[split]["shards"] = found
    return {
        "format_version": FORMAT_VERSION,
        "tokenizer": tokenizer,
        "vocab_size": vocab_size,
        "special_ids": special_ids,
        "dtype": token_dtype(vocab_size).name,
        "splits": splits,
    }


class _ArrayFile:
    """A one-dimensional .npy file that grows by appending; only the buffer is held in memory."""

    def __init__(self, path: Path, dtype: np.dtype):
        self.path = path
        self.dtype = dtype
        self.length = 0
        self._file: BinaryIO = open(path.with_name(path.name + ".tmp"), "wb")  # noqa: SIM115
        self._write_header()
        self._header_bytes = self._file.tell()

    def _write_header(self) -> None:
        # NumPy pads the header, so a longer shape still fits when it is written again.
        descr = np.lib.format.dtype_to_descr(self.dtype)
        header = {"descr": descr, "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def append(self, values: np.ndarray) -> None:
        self._file.write(values.astype(self.dtype, copy=False).tobytes())
        self.length += len(values)

    def truncate(self, length: int) -> None:
        self.length = length
        self._file.seek(self._header_bytes + length * self.dtype.itemsize)
        self._file.truncate()

    def finish(self) -> dict[str, Any]:
        self._file.seek(0)
        self._write_header()
        assert self._file.tell() == self._header_bytes, "the .npy header changed its length"
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.rename(self._file.name, self.path)
        return {"bytes": self.path.stat().st_size, "crc32": file_checksum(self.path)}

    def discard(self) -> None:
        self._file.close()
        Path(self._file.name).unlink(missing_ok=True)


class ShardWriter:
    """Writes one shard, such as "train-00000", a piece of a document at a time.

    The token ids have the given dtype; `has_words` records which of them start a word. `tokens` and
    `sentences` are the numbers written so far, including the open document.
    """

    def __init__(self, folder: Path, name: str, dtype: np.dtype, has_words: bool = False):
        self.name = name
        dtypes: dict[str, Any] = {"tokens": dtype, "sentences": np.uint32, "documents": np.uint32}
        if has_words:
            dtypes[WORDS] = bool
        self._files = {
            array: _ArrayFile(folder / f"{name}.{array}.npy", np.dtype(dtype))
            for array, dtype in dtypes.items()
        }
        self._files["sentences"].append(np.zeros(1, np.int64))
        self._files["documents"].append(np.zeros(1, np.int64))
        self.documents = 0
        self._kept_sentences = 0
        self._kept_tokens = 0

    @property
    def tokens(self) -> int:
        return self._files["tokens"].length

    @property
    def sentences(self) -> int:
        return self._files["sentences"].length - 1

    def add(
        self, tokens: np.ndarray, sentence_lengths: np.ndarray, words: np.ndarray | None = None
    ) -> None:
        """Appends sentences to the open document.

        `sentence_lengths`, integer [sentences], are the tokens of each, all positive; `words`, bool
        [tokens], says which start a word and is only for a shard that records words.
        """
        ends = self.tokens + np.cumsum(sentence_lengths, dtype=np.int64)
        self._files["tokens"].append(tokens)
        self._files["sentences"].append(ends)
        if words is not None:
            self._files[WORDS].append(words)

    def end_document(self, keep: bool = True) -> None:
        """Closes the open document, which leaves no trace if it is empty or not to `keep`."""
        if not keep:
            for array in self._files.keys() & {"tokens", WORDS}:
                self._files[array].truncate(self._kept_tokens)
            self._files["sentences"].truncate(self._kept_sentences + 1)
        if self.sentences > self._kept_sentences:
            self._files["documents"].append(np.array([self.sentences]))
            self.documents += 1
        self._kept_tokens, self._kept_sentences = self.tokens, self.sentences

    def finish(self) -> dict[str, Any]:
        """Renames the files into place and returns the shard's entry for `corpus.json`."""
        return {
            "name": self.name,
            "documents": self.documents,
            "sentences": self.sentences,
            "tokens": self.tokens,
            "files": {array: file.finish() for array, file in self._files.items()},
        }

    def discard(self) -> None:
        for file in self._files.values():
            file.discard()


@dataclasses.dataclass(frozen=True)
class Shard:
    """One shard's arrays, which are mapped, not read."""

    tokens: np.ndarray  # uint16 or uint32 [tokens], the ids of all documents one after the other
    sentences: np.ndarray  # uint32 [sentences + 1], token offset of each sentence's start
    documents: np.ndarray  # uint32 [documents + 1], index of each document's first sentence
    words: np.ndarray | None = None  # bool [tokens], whether a token starts a word, if recorded


@dataclasses.dataclass(frozen=True)
class Split:
    """All shards of one split, in order, and counts over all of them.

    `documents_per_unit` consecutive documents of a shard count as one in `first_document` and
    `documents` (fewer at the shard's end).
    """

    shards: tuple[Shard, ...]
    first_document: np.ndarray  # int64 [shards + 1], number of documents before each shard
    documents: int
    sentences: int
    tokens: int
    documents_per_unit: int = 1

    @property
    def has_words(self) -> bool:
        """Whether the corpus records which tokens start a word."""
        return any(shard.words is not None for shard in self.shards)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """An opened corpus folder; `metadata` is the content of its `corpus.json`."""

    folder: Path
    metadata: dict[str, Any]

    @property
    def vocab_size(self) -> int:
        return int(self.metadata["vocab_size"])

    @property
    def fingerprint(self) -> str:
        """The same for two corpora with the same tokenizer and the same shards."""
        contents = [self.metadata["tokenizer"], self.metadata["splits"]]
        return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def special_ids(self) -> dict[str, int]:
        """Token ids under the keys "pad", "unk", "cls", "sep" and "mask"."""
        return dict(self.metadata["special_ids"])

    def split(self, name: str) -> Split:
        """Maps the shards of the split "train" or "heldout"."""
        entries = self.metadata["splits"][name]["shards"]
        arrays = _arrays(self.metadata)
        shards = tuple(
            Shard(*(_map_array(self.folder / f"{entry['name']}.{array}.npy") for array in arrays))
            for entry in entries
        )
        counts = np.array([entry["documents"] for entry in entries], np.int64)
        return Split(
            shards=shards,
            first_document=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
            documents=int(counts.sum()),
            sentences=sum(entry["sentences"] for entry in entries),
            tokens=sum(entry["tokens"] for entry in entries),
        )


def _map_array(path: Path) -> np.ndarray:
    array = np.load(path, mmap_mode="r")
    # Training reads a little here and there; reading ahead would fetch up to megabytes each time
    # that nobody asked for: docs/decisions/input-order.md.
    array.base.madvise(mmap.MADV_RANDOM)
    return array


def _arrays(metadata: dict[str, Any]) -> tuple[str, ...]:
    """The arrays of each shard, in the order of the fields of `Shard`."""
    return (*ARRAYS, WORDS) if metadata.get("word_segmenter") else ARRAYS


def _described_files(folder: Path, metadata: dict[str, Any]) -> list[tuple[Path, int, str]]:
    """Path, bytes and CRC-32 of every array; KeyError names what is missing or impossible."""
    metadata["tokenizer"]["fingerprint"]
    special = [metadata["special_ids"][key] for key in ("pad", "unk", "cls", "sep", "mask")]
    if len(set(special)) < 5 or not 0 <= min(special) <= max(special) < metadata["vocab_size"]:
        raise KeyError("special_ids")
    files = []
    for split in SPLITS:
        described = metadata["splits"][split]
        for counted in (described, *described["shards"]):
            [counted[name] for name in COUNTS]
        for shard in described["shards"]:
            for array in _arrays(metadata):
                file = shard["files"][array]
                path = folder / f"{shard['name']}.{array}.npy"
                files.append((path, file["bytes"], file["crc32"]))
    return files


def open_corpus(folder: str | os.PathLike[str], verify: bool | None = None) -> Corpus:
    """Opens a folder that `data_pipeline.prepare` wrote, and checks it against `corpus.json`.

    Lengths are always checked. `verify` says whether to read every byte for its checksum, by
    default only if the corpus is smaller than `CHECKSUM_LIMIT_BYTES`.
    """
    folder = Path(folder)
    path = folder / "corpus.json"
    if not path.is_file():
        state = "it does not exist"
        if folder.exists():
            state = "it has no corpus.json" if folder.is_dir() else "it is a file, not a folder"
        raise DataError(
            f"{folder} is not a corpus ({state}); make one with: "
            f"python -m data_pipeline.prepare --input FILES --output {folder}"
        )
    metadata = read_json(path, "prepare the corpus again")
    version = metadata.get("format_version") if isinstance(metadata, dict) else None
    if version != FORMAT_VERSION:
        raise DataError(
            f"{folder} has corpus format version {version!r}, this program reads version "
            f"{FORMAT_VERSION}; prepare the corpus again"
        )
    try:
        files = _described_files(folder, metadata)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} does not describe a corpus (damaged at {error}); prepare the corpus again"
        ) from None
    if verify is None:
        verify = sum(size for _, size, _ in files) <= CHECKSUM_LIMIT_BYTES
    remedy = "copy or prepare the corpus again"
    for file, size, _ in files:
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            state = "is missing" if found is None else f"has {found:,} bytes"
            raise DataError(f"{file} {state}, corpus.json says {size:,}; {remedy}")
    for file, _, checksum in files if verify else ():
        if (read := file_checksum(file)) != checksum:
            raise DataError(f"{file} has checksum {read}, corpus.json says {checksum}; {remedy}")
    return Corpus(folder, metadata)
