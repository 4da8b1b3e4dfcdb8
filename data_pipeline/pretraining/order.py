"""The order in which examples are seen, as a pure function of (seed, position).

In every epoch the documents are visited in a new random order, which is computed by a keyed
permutation and never stored. They are processed in blocks of consecutive documents of that order: a
block is planned as a whole and its examples are shuffled. A position in the stream, the *cursor*,
is (epoch, block, offset of the next example in the block). See docs/decisions/input-order.md.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from data_pipeline.corpus.shards import Split
from data_pipeline.keyed_random import derive_key, permute

# Large enough to shuffle well and to amortise the planning; planning a block still takes well under
# a second and some tens of megabytes.
SENTENCES_PER_BLOCK = 1 << 16
_DOCUMENT_ORDER = 1  # what the key is for: see derive_key


class Cursor(NamedTuple):
    """Where in the stream of examples the next one is."""

    epoch: int
    block: int
    offset: int


def documents_per_block(split: Split) -> int:
    """How many documents make a block of about `SENTENCES_PER_BLOCK` sentences."""
    return max(1, round(SENTENCES_PER_BLOCK * split.documents / max(1, split.sentences)))


def blocks_per_epoch(split: Split) -> int:
    """Number of blocks that hold all documents of `split`."""
    return -(-split.documents // documents_per_block(split))


def block_documents(split: Split, seed: int, epoch: int, block: int) -> np.ndarray:
    """The documents of a block, int64 [n], in the order of the epoch; the last block is shorter."""
    size = documents_per_block(split)
    index = np.arange(block * size, min((block + 1) * size, split.documents))
    return permute(index, split.documents, derive_key(seed, _DOCUMENT_ORDER, epoch))


def batches_of_examples(
    plan_block: Callable[[int, int], np.ndarray], blocks: int, batch_size: int, cursor: Cursor
) -> Iterator[tuple[np.ndarray, Cursor]]:
    """Cuts the endless stream of examples into batches, which may span blocks and epochs.

    `plan_block` maps (epoch, block) to the examples of one of the `blocks` of an epoch, at least
    one. Yields the examples [batch_size, ...] and the cursor of the example after them.
    """
    epoch, block, offset = cursor
    examples = plan_block(epoch, block)
    while True:
        pieces, missing = [], batch_size
        while missing:
            piece = examples[offset : offset + missing]
            pieces.append(piece)
            missing -= len(piece)
            offset += len(piece)
            if offset == len(examples):
                block, offset = block + 1, 0
                if block == blocks:
                    epoch, block = epoch + 1, 0
                examples = plan_block(epoch, block)
        yield np.concatenate(pieces), Cursor(epoch, block, offset)
