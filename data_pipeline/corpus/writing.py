"""From encoded chunks to shards: no duplicates, two splits, and commits to resume from."""

import contextlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.corpus.document_key import DocumentKey
from data_pipeline.corpus.encode import EncodedChunk
from data_pipeline.corpus.journal import Journal
from data_pipeline.corpus.shards import SPLITS, ShardWriter

# A longer document continues as another one in the same split: training plans whole documents in
# memory, and offsets in a shard have 32 bits.
MAX_DOCUMENT_TOKENS = 1 << 22


class CorpusWriter:
    """Writes documents to the shards of both splits; used as a context manager.

    Whenever the open shards hold `max_shard_tokens` together, all are finished and the journal is
    committed. Where that happens depends on the input alone, so a run that was interrupted and
    repeated writes the same bytes as one that was not.

    `dtype` is that of the token ids, `heldout_fraction` the expected share of held-out documents.
    Writing resumes at the last `progress` of the journal: the `chunk` to continue with and how many
    of its `documents` are done; the numbers of `duplicates` left out and of documents `cut` because
    of their length; `cut_in`, the split of a document that was cut and continues; the finished
    `shards` of each split, as corpus.json lists them.
    """

    def __init__(
        self,
        folder: Path,
        dtype: np.dtype,
        heldout_fraction: float,
        max_shard_tokens: int,
        journal: Journal,
    ):
        self._folder = folder
        self._dtype = dtype
        self._heldout_fraction = heldout_fraction
        self._max_shard_tokens = max_shard_tokens
        self._journal = journal
        self.progress: dict[str, Any] = journal.progress() or {
            "chunk": 0,
            "documents": 0,
            "duplicates": 0,
            "cut": 0,
            "cut_in": None,
            "shards": {split: [] for split in SPLITS},
        }
        self._open: dict[str, ShardWriter] = {}
        self._key = DocumentKey()
        self._split = SPLITS[0]
        self._document_tokens = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is no document yet."""
        finished = any(self.progress["shards"].values())
        return not finished and not any(shard.documents for shard in self._open.values())

    def __enter__(self) -> "CorpusWriter":
        return self

    def __exit__(self, *error: object) -> None:
        for shard in self._open.values():
            with contextlib.suppress(OSError):  # a full disk refuses the last buffer too
                shard.discard()

    def add(self, chunk: EncodedChunk) -> None:
        """Appends the next chunk."""
        last = len(chunk.keys) - 1
        sentences = np.concatenate([[0], np.cumsum(chunk.document_sentences, dtype=np.int64)])
        tokens = np.concatenate([[0], np.cumsum(chunk.sentence_lengths, dtype=np.int64)])
        for index in range(self.progress["documents"], last + 1):
            start, end = sentences[index], sentences[index + 1]
            self._add_piece(
                chunk.keys[index],
                chunk.tokens[tokens[start] : tokens[end]],
                chunk.sentence_lengths[start:end],
                None if chunk.words is None else chunk.words[tokens[start] : tokens[end]],
            )
            ended = index < last or chunk.ends_document
            if ended or self._document_tokens >= MAX_DOCUMENT_TOKENS:
                self._end_document(goes_on=not ended)
                self.progress["documents"] = index + 1
                if sum(shard.tokens for shard in self._open.values()) >= self._max_shard_tokens:
                    self.commit()
        self.progress |= {"chunk": self.progress["chunk"] + 1, "documents": 0}

    def commit(self) -> None:
        """Finishes the open shards and makes everything up to here permanent."""
        for split, shard in self._open.items():
            if shard.documents:
                self.progress["shards"][split].append(shard.finish())
            else:
                shard.discard()
        self._open.clear()
        self._journal.commit(self.progress)

    def _add_piece(
        self, key: DocumentKey, tokens: np.ndarray, lengths: np.ndarray, words: np.ndarray | None
    ) -> None:
        if not key.paragraphs:
            return
        if not self._key.paragraphs:
            # Decided by the document's first piece: the rest may not have been read yet.
            chosen = SPLITS[key.fraction() < self._heldout_fraction]
            self._split = self.progress["cut_in"] or chosen
        # A single piece is too long where a JSON record is; the keys of its parts follow from its.
        bounds = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        limits = np.arange(MAX_DOCUMENT_TOKENS, len(tokens), MAX_DOCUMENT_TOKENS)
        cuts = np.searchsorted(bounds, limits, side="right") - 1
        for number, (first, end) in enumerate(itertools.pairwise([0, *cuts, len(lengths)])):
            if number:
                self._end_document(goes_on=True)
            self._key += key + DocumentKey(number, 1) if number else key
            part = slice(bounds[first], bounds[end])
            self._document_tokens += len(tokens[part])
            if self._split not in self._open:
                name = f"{self._split}-{len(self.progress['shards'][self._split]):05d}"
                self._open[self._split] = ShardWriter(
                    self._folder, name, self._dtype, has_words=words is not None
                )
            self._open[self._split].add(
                tokens[part], lengths[first:end], None if words is None else words[part]
            )

    def _end_document(self, goes_on: bool) -> None:
        if self._key.paragraphs:
            new = self._journal.add_document(self._key.digest())
            self._open[self._split].end_document(keep=new)
            self.progress["duplicates"] += not new
            self.progress["cut"] += new and goes_on and not self.progress["cut_in"]
        self.progress["cut_in"] = self._split if goes_on else None
        self._key = DocumentKey()
        self._document_tokens = 0
