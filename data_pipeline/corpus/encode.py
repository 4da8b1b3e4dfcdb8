"""From a chunk of raw text to token ids, in worker processes and in order."""

import dataclasses
import hashlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from data_pipeline.corpus.shards import token_dtype
from data_pipeline.text.clean import clean_text
from data_pipeline.text.sentences import splitter
from data_pipeline.text.sources import Chunk, chunk_documents
from data_pipeline.text.words import load_segmenter, mark_words
from data_pipeline.tokenization.loading import Tokenizer, load_tokenizer

T = TypeVar("T")
R = TypeVar("R")

# A longer sentence (a table, base64) is cut: training plans by sentences and would cut it anyway.
MAX_SENTENCE_TOKENS = 10_000

# A document's key is a polynomial over the hashes of its paragraphs, modulo a Mersenne prime: the
# keys of two pieces give the key of the whole wherever it was cut.
_MODULUS = (1 << 127) - 1
_BASE = 0x5DEECE66D2B7E151628AED2A6ABF7158


@dataclasses.dataclass(frozen=True)
class DocumentKey:
    """What two documents share exactly when their cleaned paragraphs are the same.

    Attributes:
      value: 127-bit hash.
      paragraphs: how many paragraphs it covers.
    """

    value: int = 0
    paragraphs: int = 0

    def __add__(self, other: "DocumentKey") -> "DocumentKey":
        """The key of this text followed by the other."""
        shifted = self.value * pow(_BASE, other.paragraphs, _MODULUS)
        return DocumentKey((shifted + other.value) % _MODULUS, self.paragraphs + other.paragraphs)

    def fraction(self) -> float:
        """A number in [0, 1) that is uniform over documents."""
        return self.value / _MODULUS

    def digest(self) -> bytes:
        """Sixteen bytes."""
        return self.value.to_bytes(16, "big")


def document_key(paragraphs: Iterable[str]) -> DocumentKey:
    """The key of some cleaned paragraphs."""
    value = count = 0
    for paragraph in paragraphs:
        digest = hashlib.blake2b(paragraph.encode(), digest_size=16).digest()
        value = (value * _BASE + int.from_bytes(digest, "big")) % _MODULUS
        count += 1
    return DocumentKey(value, count)


@dataclasses.dataclass(frozen=True)
class EncodedChunk:
    """A chunk's documents as token ids.

    Attributes:
      tokens: uint16 or uint32 [tokens], all ids one after the other.
      sentence_lengths: int32 [sentences], tokens of each sentence, all positive.
      document_sentences: int32 [documents], sentences of each document.
      words: bool [tokens], whether a token starts a word; None without a segmenter.
      keys: one for each document.
      ends_document: whether the last document ends here; all others do.
      source_bytes: bytes of text the chunk had.
    """

    tokens: np.ndarray
    sentence_lengths: np.ndarray
    document_sentences: np.ndarray
    words: np.ndarray | None
    keys: list[DocumentKey]
    ends_document: bool
    source_bytes: int


def encode_chunk(
    chunk: Chunk,
    tokenizer: Tokenizer,
    split: Callable[[str], list[str]],
    segment: Callable[[str], list[str]] | None = None,
) -> EncodedChunk:
    """Cleans, splits and encodes a chunk, and finds its words if `segment` is given.

    Sentences without tokens are left out, those beyond `MAX_SENTENCE_TOKENS` cut in several.
    """
    sentences: list[str] = []
    counts: list[int] = []
    keys: list[DocumentKey] = []
    for lines in chunk_documents(chunk):
        before = len(sentences)
        paragraphs = [cleaned for line in lines if (cleaned := clean_text(line))]
        for paragraph in paragraphs:
            sentences += split(paragraph)
        counts.append(len(sentences) - before)
        keys.append(document_key(paragraphs))
    tokens, lengths = tokenizer.encode_batch(sentences)
    # Each sentence gives so many: none without tokens. All are of full length but the last.
    parts = -(-lengths // MAX_SENTENCE_TOKENS)
    part_lengths = np.full(parts.sum(), MAX_SENTENCE_TOKENS, np.int32)
    part_lengths[np.cumsum(parts)[parts > 0] - 1] = (lengths - (parts - 1) * MAX_SENTENCE_TOKENS)[
        parts > 0
    ]
    # Sentences of each document: differences of a running count at its bounds.
    running = np.concatenate([[0], np.cumsum(parts)])
    bounds = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return EncodedChunk(
        tokens=tokens.astype(token_dtype(tokenizer.vocab_size)),
        sentence_lengths=part_lengths,
        document_sentences=np.diff(running[bounds]).astype(np.int32),
        words=segment
        and mark_words(sentences, segment, tokenizer.token_offsets(sentences), lengths),
        keys=keys,
        ends_document=chunk.ends_document,
        source_bytes=len(chunk.data),
    )


def encode_chunks(
    chunks: Iterable[Chunk],
    folder: Path,
    language: str,
    processes: int,
    word_segmenter: str | None = None,
) -> Iterator[EncodedChunk]:
    """Encodes chunks in order with the tokenizer that `folder` holds."""
    if processes == 1:
        tools = _load_tools(folder, language, word_segmenter)
        yield from (encode_chunk(chunk, *tools) for chunk in chunks)
        return
    with worker_pool(processes, _load_worker, folder, language, word_segmenter) as pool:
        yield from ordered_map(pool, _encode_in_worker, chunks, waiting=2 * processes)


class _WorkerProcess(SpawnProcess):
    """A spawned process that does not import the script that was started.

    Workers import what they need by name. The script may import jax, which would cost each of them
    seconds, or start its work without a guard for `__main__`.
    """

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        script = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            return SpawnProcess._Popen(process_obj)
        finally:
            sys.modules["__main__"] = script


class _WorkerContext(SpawnContext):
    Process = _WorkerProcess


@contextmanager
def worker_pool(
    processes: int, initializer: Callable[..., None] | None = None, *arguments: object
) -> Iterator[ProcessPoolExecutor]:
    """Processes that stop at once when the block is left by an error, and never outlive us."""
    pool = ProcessPoolExecutor(
        processes,
        mp_context=_WorkerContext(),
        initializer=_start_worker,
        initargs=(initializer, arguments),
    )
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def ordered_map(
    pool: ProcessPoolExecutor, function: Callable[[T], R], values: Iterable[T], waiting: int
) -> Iterator[R]:
    """Results in the order of the values, of which at most `waiting` are under way or done."""
    pending: deque[Future[R]] = deque()
    for value in values:
        pending.append(pool.submit(function, value))
        if len(pending) >= waiting:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _start_worker(initializer: Callable[..., None] | None, arguments: tuple[object, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow_parent() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()
    if initializer:
        initializer(*arguments)


_Tools = tuple[Tokenizer, Callable[[str], list[str]], Callable[[str], list[str]] | None]
_worker: _Tools


def _load_tools(folder: Path, language: str, word_segmenter: str | None) -> _Tools:
    segment = load_segmenter(word_segmenter) if word_segmenter else None
    return load_tokenizer(folder), splitter(language), segment


def _load_worker(folder: Path, language: str, word_segmenter: str | None) -> None:
    global _worker
    _worker = _load_tools(folder, language, word_segmenter)


def _encode_in_worker(chunk: Chunk) -> EncodedChunk:
    return encode_chunk(chunk, *_worker)
