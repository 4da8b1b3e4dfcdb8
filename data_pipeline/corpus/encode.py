"""From a chunk of raw text to token ids, in worker processes and in order."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from data_pipeline.corpus.document_key import DocumentKey, document_key
from data_pipeline.corpus.shards import token_dtype
from data_pipeline.text.clean import clean_text
from data_pipeline.text.sentences import splitter
from data_pipeline.text.sources import Chunk, chunk_documents
from data_pipeline.text.words import load_segmenter, mark_words
from data_pipeline.tokenization.interface import Tokenizer
from data_pipeline.tokenization.loading import load_tokenizer
from data_pipeline.workers import ordered_map, worker_pool

# A longer sentence (a table, base64) is cut: training plans whole sentences and would cut it too.
MAX_SENTENCE_TOKENS = 10_000


@dataclasses.dataclass(frozen=True)
class EncodedChunk:
    """A chunk's documents as token ids."""

    tokens: np.ndarray  # uint16 or uint32 [tokens], all ids one after the other
    sentence_lengths: np.ndarray  # int32 [sentences], tokens of each sentence, all positive
    document_sentences: np.ndarray  # int32 [documents], sentences of each document
    words: np.ndarray | None  # bool [tokens], whether each starts a word; None without a segmenter
    keys: list[DocumentKey]  # one for each document
    ends_document: bool  # whether the last document ends here; all others do
    source_bytes: int  # of the chunk's text


def encode_chunk(
    chunk: Chunk,
    tokenizer: Tokenizer,
    split: Callable[[str], list[str]],
    segment: Callable[[str], list[str]] | None = None,
) -> EncodedChunk:
    """Cleans, splits and encodes a chunk, and finds its words if `segment` is given.

    Sentences without tokens are left out, those longer than `MAX_SENTENCE_TOKENS` are cut.
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
    # The parts of each sentence: none without tokens, else all of full length but the last.
    parts = -(-lengths // MAX_SENTENCE_TOKENS)
    part_lengths = np.full(parts.sum(), MAX_SENTENCE_TOKENS, np.int32)
    last = lengths - (parts - 1) * MAX_SENTENCE_TOKENS
    part_lengths[np.cumsum(parts)[parts > 0] - 1] = last[parts > 0]
    # Sentences of each document: differences of a running count at its bounds.
    running = np.concatenate([[0], np.cumsum(parts)])
    bounds = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    words = None
    if segment:
        words = mark_words(sentences, segment, tokenizer.token_offsets(sentences), lengths)
    return EncodedChunk(
        tokens=tokens.astype(token_dtype(tokenizer.vocab_size)),
        sentence_lengths=part_lengths,
        document_sentences=np.diff(running[bounds]).astype(np.int32),
        words=words,
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
    """Encodes chunks in order with the tokenizer in `folder`."""
    settings = folder, language, word_segmenter
    if processes == 1:
        tools = _load_tools(*settings)
        yield from (encode_chunk(chunk, *tools) for chunk in chunks)
        return
    with worker_pool(processes) as pool:
        encode = partial(_encode_in_worker, settings)
        yield from ordered_map(pool, encode, chunks, waiting=2 * processes)


_Settings = tuple[Path, str, str | None]
_Tools = tuple[Tokenizer, Callable[[str], list[str]], Callable[[str], list[str]] | None]


def _load_tools(folder: Path, language: str, word_segmenter: str | None) -> _Tools:
    segment = load_segmenter(word_segmenter) if word_segmenter else None
    return load_tokenizer(folder), splitter(language), segment


_tools_of_worker = functools.cache(_load_tools)


def _encode_in_worker(settings: _Settings, chunk: Chunk) -> EncodedChunk:
    return encode_chunk(chunk, *_tools_of_worker(*settings))
