"""Pre-training batches from a corpus: order, pairs and masks on the fly, streamed by tf.data.

Planning and masking are NumPy on whole blocks and batches; `stream` runs them in tf.data.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from data_pipeline.corpus.shards import Corpus, Shard, Split
from data_pipeline.errors import DataError
from data_pipeline.pretraining.blocks import Draws
from data_pipeline.pretraining.collate import Batch, collate_examples, collate_packed
from data_pipeline.pretraining.config import SEGMENTS, DataConfig
from data_pipeline.pretraining.examples import EXAMPLE
from data_pipeline.pretraining.full_sentences import plan_full_sentences, runs_of_documents
from data_pipeline.pretraining.masking import MAX_LENGTH, mask_tokens
from data_pipeline.pretraining.order import Cursor, batches_of_examples, blocks_per_epoch
from data_pipeline.pretraining.packing import pack_examples
from data_pipeline.pretraining.pairing import plan_block
from data_pipeline.pretraining.stream import stream

# If this many epochs of held-out pairs have none of one class, there will never be one.
_PATIENCE_EPOCHS = 20
_NAMES = {"train": "train", "heldout": "held-out"}


def batches(
    corpus: Corpus,
    config: DataConfig,
    *,
    split: str = "train",
    batch_size: int,
    sequence_length: int,
    max_predictions: int,
    seed: int,
    cursor: Sequence[int] = (0, 0, 0),
    host_index: int = 0,
    host_count: int = 1,
    starts_word: np.ndarray | None = None,
    workers: int = 2,
) -> Iterator[Batch]:
    """The endless stream of training batches: a pure function of all arguments but `workers`.

    Args:
      corpus: from `shards.open_corpus`.
      config: how examples are made.
      split: "train" or "heldout".
      batch_size: sequences (packed: rows) in the batch of all hosts together.
      sequence_length: L, tokens of a sequence (or row) with its special tokens.
      max_predictions: K, prediction slots of a sequence (or row).
      seed: of order, pairs and masks; give each phase of a training its own.
      cursor: where to begin, the "cursor" of the last batch that was trained on. It is valid only
        for the same corpus, configuration, sequence length and seed.
      host_index, host_count: this host gets slice number host_index of B / host_count rows.
      starts_word: bool [vocab_size], true where a piece starts a word, for masking whole words and
        spans; not needed for a corpus prepared with a word segmenter, which records its words.
      workers: how many batches are collated in parallel.

    Returns:
      An iterator of batches (see `collate.Batch`) with batch_size / host_count rows. The arrays may
      be read-only. Deleting the iterator ends its threads.
    """
    if batch_size < 1 or batch_size % host_count:
        raise DataError(
            f"batch size {batch_size} is not a positive multiple of {host_count} hosts; change it"
        )
    documents = _open_split(corpus, split, config)
    plan, blocks, collate = _stages(
        corpus, documents, config, sequence_length, max_predictions, seed, starts_word
    )
    start = Cursor(*(int(number) for number in cursor))
    if (
        min(start) < 0
        or start.block >= blocks
        or (start.offset and start.offset >= len(plan(start.epoch, start.block)))
    ):
        raise DataError(
            f"cursor {tuple(start)} lies outside this corpus with {blocks} blocks per epoch; it "
            "must come from a run on the same corpus with the same sequence length and seed"
        )
    rows = batch_size // host_count
    mine = slice(host_index * rows, (host_index + 1) * rows)

    def plans() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for examples, after in batches_of_examples(plan, blocks, batch_size, start):
            chosen = examples[mine]
            if config.packed:  # rows have room for many examples, but most hold only a few
                chosen = chosen[:, : (chosen["length"][..., 0] > 0).sum(axis=1).max()]
            yield chosen, np.array(after, np.int64)

    return stream(plans(), collate, workers)


def evaluation_batches(
    corpus: Corpus,
    config: DataConfig,
    *,
    batch_size: int,
    sequence_length: int,
    max_predictions: int,
    seed: int,
    examples: int,
    starts_word: np.ndarray | None = None,
) -> list[Batch]:
    """The fixed held-out set: the same pairs and masks every time.

    The batches are those of `batches`, without "cursor".

    With pairs, both labels are equally frequent, overall and in each batch (one more of the first
    where the size is odd), so that a constant answer scores 0.5. If the held-out documents yield
    too few examples, they are used again with new draws. `examples` is their number (packed: that
    of rows), a multiple of `batch_size`; the other arguments are those of `batches`.
    """
    if batch_size < 1 or examples < 1 or examples % batch_size:
        raise DataError(
            f"{examples} evaluation examples are not a positive multiple of the batch size "
            f"{batch_size}; change one of them"
        )
    documents = _open_split(corpus, "heldout", config)
    plan, blocks, collate = _stages(
        corpus, documents, config, sequence_length, max_predictions, seed, starts_word
    )
    classes = SEGMENTS[config.pairs]
    wanted = [-(-(examples - label) // classes) for label in range(classes)]
    found: list[list[np.ndarray]] = [[] for _ in wanted]
    counts = np.zeros(classes, int)
    number = 0
    while (counts < wanted).any():
        if number >= _PATIENCE_EPOCHS * blocks and not counts.all():
            raise DataError(
                f"the {documents.documents} held-out documents yield no pairs of consecutive "
                "sentences; prepare the corpus with more than one sentence in a document, or set "
                "pairs to 'doc_sentences'"
            )
        planned = plan(*divmod(number, blocks))
        for label in np.flatnonzero(counts < wanted).tolist():
            # Without pairs there is one class. Packed, these are rows of several examples.
            rows = planned if classes == 1 else planned[planned["label"] == label]
            found[label].append(rows)
            counts[label] += len(rows)
        number += 1
    chosen = np.zeros((examples, *planned.shape[1:]), EXAMPLE)
    for label, want in enumerate(wanted):
        if want:
            chosen[label::classes] = np.concatenate(found[label])[:want]
    return [collate(chosen[first : first + batch_size]) for first in range(0, examples, batch_size)]


def _stages(
    corpus: Corpus,
    split: Split,
    config: DataConfig,
    sequence_length: int,
    max_predictions: int,
    seed: int,
    starts_word: np.ndarray | None,
) -> tuple[Callable[[int, int], np.ndarray], int, Callable[[np.ndarray], Batch]]:
    """The functions that plan and collate the examples of a split.

    Returns:
      A function from (epoch, block) to the block's examples, `EXAMPLE` [n], or [n, R] where they
      are packed into rows; the number of blocks in an epoch; and a function from `EXAMPLE` [B],
      or [B, R], to a batch.
    """
    shortest = config.shortest_sequence
    if not shortest <= sequence_length <= MAX_LENGTH:
        raise DataError(
            f"sequence length {sequence_length} is not within {shortest} to {MAX_LENGTH}; change it"
        )
    if not 1 <= max_predictions < sequence_length:
        raise DataError(
            f"max_predictions {max_predictions} is not within 1 to {sequence_length - 1}, the "
            "sequence length less one; change it"
        )
    if config.masking == "token":
        starts_word = None
    elif starts_word is None and not split.has_words:
        raise ValueError(f"{config.masking} masking needs starts_word")
    units = runs_of_documents(split) if config.pairs == "full_sentences" else split
    lengths = sequence_length, config.short_sequence_probability
    probability = config.masked_lm_probability

    def plan(epoch: int, block: int) -> np.ndarray:
        draws = Draws(seed, epoch, block)
        if config.pairs == "full_sentences":
            return plan_full_sentences(units, draws, *lengths)
        examples = plan_block(split, config.pairs, draws, *lengths)
        if config.packed:
            return pack_examples(examples, draws, sequence_length, max_predictions, probability)
        return examples

    mask = partial(
        mask_tokens,
        masking=config.masking,
        max_predictions=max_predictions,
        probability=probability,
        mask_rate=config.mask_rate,
        keep_rate=config.keep_rate,
        mask_id=corpus.special_ids["mask"],
        vocab_size=corpus.vocab_size,
    )
    collate = partial(
        collate_packed if config.packed else collate_examples,
        split=split,
        pairs=config.pairs,
        sequence_length=sequence_length,
        special_ids=corpus.special_ids,
        mask=mask,
        starts_word=starts_word,
    )
    return plan, blocks_per_epoch(units), collate


def _open_split(corpus: Corpus, name: str, config: DataConfig) -> Split:
    """The split, if it has enough documents, as plain arrays, since np.memmap indexes slowly."""
    split = corpus.split(name)
    needed = SEGMENTS[config.pairs]
    if split.documents < needed:
        remedy = (
            "prepare it from more documents (a blank line ends a document)"
            if name == "train"
            else "prepare it with a larger --heldout-fraction or add --evaluation-examples 0"
        )
        raise DataError(
            f"{corpus.folder} has {split.documents} {_NAMES[name]} documents; pairs "
            f"{config.pairs!r} need at least {needed}: {remedy}"
        )
    shards = tuple(
        Shard(
            np.asarray(shard.tokens),
            np.asarray(shard.sentences),
            np.asarray(shard.documents),
            None if shard.words is None or config.masking == "token" else np.asarray(shard.words),
        )
        for shard in split.shards
    )
    return dataclasses.replace(split, shards=shards)
