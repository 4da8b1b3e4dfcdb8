"""Pre-training batches from a corpus: order, pairs and masks on the fly, streamed by tf.data.

Planning and masking are NumPy on whole blocks and batches; tf.data runs them in parallel and ahead
of the consumer. The keys of a batch are described in `Batch`.
"""

import dataclasses
import os
import weakref
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.masking import MAX_LENGTH, mask_tokens
from data_pipeline.order import Cursor, batches_of_examples, blocks_per_epoch
from data_pipeline.pairing import EXAMPLE, Pairs, plan_block, sort_by_shard, special_tokens
from data_pipeline.shards import Corpus, Shard, Split

# B sequences of L tokens with K predictions:
#   input_ids             int32 [B, L]    tokens after masking, [CLS] A [SEP] B [SEP] and padding
#   token_type_ids        int32 [B, L]    0 for [CLS] A [SEP], 1 for B [SEP]
#   attention_mask        int32 [B, L]    1 for tokens, 0 for padding
#   masked_positions      int32 [B, K]    positions to predict, ascending, 0 where unused
#   masked_labels         int32 [B, K]    the original tokens, 0 where unused
#   masked_weights        float32 [B, K]  1 for a prediction, 0 where unused
#   next_sentence_labels  int32 [B]       0: B follows A, 1: B is random (absent without pairs)
#   cursor                int64 [3]       epoch, block and offset of the example after this batch
Batch = dict[str, np.ndarray]

_PLANS_AHEAD = 16
_BATCHES_AHEAD = 8
# So many epochs of held-out pairs without one of a class mean that there will never be one.
_PATIENCE_EPOCHS = 20


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """How pre-training examples are made from a corpus.

    Attributes:
      masked_lm_probability: share of a sequence's tokens to predict, capped by the number of
        prediction slots.
      whole_word_masking: mask all pieces of a word together.
      pairs: "next_sentence" for sentence pairs with the next-sentence objective, "none" for single
        stretches of text.
      short_sequence_probability: how often a pass over a document aims at a random shorter length,
        so that short sequences are seen in training too.
    """

    masked_lm_probability: float = 0.15
    whole_word_masking: bool = False
    pairs: Pairs = "next_sentence"
    short_sequence_probability: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.masked_lm_probability <= 1:
            raise DataError(
                f"masked_lm_probability is {self.masked_lm_probability}; it must be above 0 and at "
                "most 1, usually 0.15"
            )
        if not 0 <= self.short_sequence_probability <= 1:
            raise DataError(
                f"short_sequence_probability is {self.short_sequence_probability}; it must be "
                "between 0 and 1, usually 0.1"
            )
        if self.pairs not in ("next_sentence", "none"):
            raise DataError(f"pairs is {self.pairs!r}; it must be 'next_sentence' or 'none'")


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
    """The endless stream of training batches: a pure function of the arguments but `workers`.

    Args:
      corpus: from `shards.open_corpus`.
      config: how examples are made.
      split: "train" or "heldout".
      batch_size: sequences in the batch of all hosts together.
      sequence_length: L, tokens of a sequence with its special tokens.
      max_predictions: K, prediction slots of a sequence.
      seed: of order, pairs and masks; give each phase of a training another one.
      cursor: where to begin, the "cursor" of the last batch that was trained on. It is only
        meaningful with the same corpus, configuration, sequence length and seed.
      host_index, host_count: of B / host_count rows each, this host gets slice number host_index.
      starts_word: bool [vocab_size], true where a piece starts a word, for whole-word masking.
      workers: parallel calls that fill batches.

    Returns:
      An iterator of batches (see `Batch` above) with batch_size / host_count rows. The arrays may
      be read-only. Deleting the iterator ends its threads.

    Raises:
      DataError: the corpus has too few documents, or a length, batch size or cursor does not fit.
    """
    if batch_size < 1 or batch_size % host_count:
        raise DataError(
            f"batch size {batch_size} is not a positive multiple of {host_count} hosts; change it"
        )
    documents = _open_split(corpus, split, config)
    fill = _filler(corpus, documents, config, sequence_length, max_predictions, starts_word)
    plan = partial(
        plan_block,
        documents,
        config.pairs,
        sequence_length=sequence_length,
        short_sequence_probability=config.short_sequence_probability,
        seed=seed,
    )
    start = Cursor(*(int(number) for number in cursor))
    blocks = blocks_per_epoch(documents)
    if (
        min(start) < 0
        or start.block >= blocks
        or (start.offset and start.offset >= len(plan(epoch=start.epoch, block=start.block)))
    ):
        raise DataError(
            f"cursor {tuple(start)} lies outside this corpus with {blocks} blocks an epoch; it "
            "must come from a run on the same corpus with the same sequence length and seed"
        )
    rows = batch_size // host_count
    mine = slice(host_index * rows, (host_index + 1) * rows)

    def plans() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        stream = batches_of_examples(
            lambda epoch, block: plan(epoch=epoch, block=block), blocks, batch_size, start
        )
        for examples, after in stream:
            yield examples[mine].view(np.int64).reshape(rows, -1), np.array(after, np.int64)

    return _stream(plans, fill, workers)


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
    """The fixed held-out set: the same pairs and masks whenever it is made.

    With pairs, both next-sentence classes are equally frequent, in the whole and in each batch (by
    one more of the first where the size is odd), so that a constant answer scores 0.5. Where the
    held-out documents make fewer examples than asked for, they are used again with new draws.

    Args:
      examples: how many, a multiple of `batch_size`.
      The others are as in `batches`.

    Returns:
      Batches as from `batches`, without "cursor".

    Raises:
      DataError: as in `batches`, or `examples` is no positive multiple of `batch_size`, or the
        held-out documents never make a pair of one class.
    """
    if batch_size < 1 or examples < 1 or examples % batch_size:
        raise DataError(
            f"{examples} evaluation examples are not a positive multiple of the batch size "
            f"{batch_size}; change one of them"
        )
    documents = _open_split(corpus, "heldout", config)
    fill = _filler(corpus, documents, config, sequence_length, max_predictions, starts_word)
    classes = 2 if config.pairs == "next_sentence" else 1
    wanted = [-(-(examples - label) // classes) for label in range(classes)]
    found: list[list[np.ndarray]] = [[] for _ in range(classes)]
    counts = [0] * classes
    blocks = blocks_per_epoch(documents)
    number = 0
    while any(count < want for count, want in zip(counts, wanted, strict=True)):
        if number >= _PATIENCE_EPOCHS * blocks and 0 in counts:
            raise DataError(
                f"the {documents.documents} held-out documents make no pairs of consecutive "
                "sentences; prepare the corpus with more than one sentence in a document, or set "
                "pairs to 'none'"
            )
        epoch, block = divmod(number, blocks)
        plan = plan_block(
            documents,
            config.pairs,
            sequence_length=sequence_length,
            short_sequence_probability=config.short_sequence_probability,
            seed=seed,
            epoch=epoch,
            block=block,
        )
        for label in range(classes):
            rows = plan[plan["label"] == label][: wanted[label] - counts[label]]
            found[label].append(rows)
            counts[label] += len(rows)
        number += 1
    chosen = np.zeros(examples, EXAMPLE)
    for label in range(classes):
        chosen[label::classes] = np.concatenate(found[label])
    return [fill(chosen[first : first + batch_size]) for first in range(0, examples, batch_size)]


def _open_split(corpus: Corpus, name: str, config: DataConfig) -> Split:
    """The split with enough documents, its arrays as plain views (np.memmap indexes slowly)."""
    split = corpus.split(name)
    needed = 2 if config.pairs == "next_sentence" else 1
    if split.documents < needed:
        raise DataError(
            f"{corpus.folder} has {split.documents} {name} documents, pairs {config.pairs!r} need "
            f"at least {needed}; prepare it from more documents (a blank line ends a document)"
        )
    shards = tuple(
        Shard(*(np.asarray(array) for array in (shard.tokens, shard.sentences, shard.documents)))
        for shard in split.shards
    )
    return dataclasses.replace(split, shards=shards)


def _filler(
    corpus: Corpus,
    split: Split,
    config: DataConfig,
    sequence_length: int,
    max_predictions: int,
    starts_word: np.ndarray | None,
) -> Any:
    """A function from `EXAMPLE` [B] to a batch, its arguments checked."""
    shortest = special_tokens(config.pairs) + 2
    if not shortest <= sequence_length <= MAX_LENGTH:
        raise DataError(
            f"sequence length {sequence_length} is not within {shortest} to {MAX_LENGTH}; change it"
        )
    if not 1 <= max_predictions < sequence_length:
        raise DataError(
            f"max_predictions {max_predictions} is not within 1 to {sequence_length - 1}, the "
            "sequence length less one; change it"
        )
    if config.whole_word_masking and starts_word is None:
        raise ValueError("whole-word masking needs starts_word")
    return partial(
        fill_batch,
        split=split,
        pairs=config.pairs,
        sequence_length=sequence_length,
        special_ids=corpus.special_ids,
        mask=partial(
            mask_tokens,
            max_predictions=max_predictions,
            probability=config.masked_lm_probability,
            mask_id=corpus.special_ids["mask"],
            vocab_size=corpus.vocab_size,
            starts_word=starts_word if config.whole_word_masking else None,
        ),
    )


def fill_batch(
    examples: np.ndarray,
    *,
    split: Split,
    pairs: Pairs,
    sequence_length: int,
    special_ids: dict[str, int],
    mask: Any,
) -> Batch:
    """Reads the tokens of planned examples and masks them.

    Args:
      examples: `EXAMPLE` [B].
      split: where their tokens are.
      pairs: whether there is a segment B.
      sequence_length: L.
      special_ids: token ids of "pad", "cls" and "sep".
      mask: `mask_tokens` without its first four arguments.

    Returns:
      A batch without "cursor".
    """
    size = len(examples)
    a_length, b_length = examples["length"].T
    first_sep = a_length + 1  # column of [SEP] after A
    lengths = a_length + b_length + special_tokens(pairs)

    input_ids = np.full((size, sequence_length), special_ids["pad"], np.int32)
    flat_ids = input_ids.reshape(-1)
    row_start = np.arange(size) * sequence_length
    flat_ids[row_start] = special_ids["cls"]
    flat_ids[row_start + first_sep] = special_ids["sep"]
    flat_ids[row_start + lengths - 1] = special_ids["sep"]
    # Both segments of every example as one list [2B] of stretches, sorted by shard; their T tokens
    # are read one shard after the other and go to their places together.
    place = np.stack([row_start + 1, row_start + first_sep + 1], axis=1).reshape(-1)
    order, runs = sort_by_shard(examples["shard"].reshape(-1))
    offset, length, place = (
        array.reshape(-1)[order] for array in (examples["offset"], examples["length"], place)
    )
    begin = np.concatenate([[0], np.cumsum(length)])  # [2B + 1]
    within = np.arange(begin[-1])
    source = np.repeat(offset - begin[:-1], length) + within  # [T]
    target = np.repeat(place - begin[:-1], length) + within
    tokens = np.empty(len(source), np.int32)
    for number, first, last in runs:
        part = slice(begin[first], begin[last])
        tokens[part] = split.shards[number].tokens[source[part]]
    flat_ids[target] = tokens

    columns = np.arange(sequence_length)
    is_token = columns < lengths[:, None]
    is_b = is_token & (columns > first_sep[:, None])
    eligible = columns < lengths[:, None] - 1
    eligible[:, 0] = False
    eligible.reshape(-1)[row_start + first_sep] = False
    positions, labels, weights = mask(input_ids, eligible, lengths, examples["key"])
    batch = {
        "input_ids": input_ids,
        "token_type_ids": is_b.astype(np.int32),
        "attention_mask": is_token.astype(np.int32),
        "masked_positions": positions,
        "masked_labels": labels,
        "masked_weights": weights,
    }
    if pairs == "next_sentence":
        batch["next_sentence_labels"] = examples["label"].astype(np.int32)
    return batch


def import_tensorflow() -> Any:
    """TensorFlow without its start-up messages and without a GPU, which belongs to the trainer."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # The log level does not silence the remark about oneDNN, which tf.data has no use for.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    return tf


class _Stream(Iterator[Batch]):
    """The iterator of a tf.data dataset, ended in time when the interpreter exits.

    The dataset's threads call Python. When they want to while the interpreter is being torn down,
    they never return, and TensorFlow waits for them forever.
    """

    def __init__(self, dataset: Any):
        # The list is the only owner, and it is emptied when this object goes, or before the exit.
        self._owner = [dataset.as_numpy_iterator()]
        weakref.finalize(self, self._owner.clear)

    def __next__(self) -> Batch:
        return next(self._owner[0])


def _stream(plans: Any, fill: Any, workers: int) -> Iterator[Batch]:
    """Runs `fill` over the generator `plans` in parallel and in order, ahead of the consumer."""
    tf = import_tensorflow()
    examples, cursor = next(plans())
    sample = fill(examples.view(EXAMPLE)[:, 0])

    def load(examples: Any, cursor: Any) -> dict[str, Any]:
        arrays = tf.numpy_function(
            lambda rows: list(fill(rows.view(EXAMPLE)[:, 0]).values()),
            [examples],
            [array.dtype for array in sample.values()],
            stateful=False,
        )
        return dict(zip(sample, arrays, strict=True)) | {"cursor": cursor}

    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.threading.private_threadpool_size = workers + 1
    dataset = (
        tf.data.Dataset.from_generator(
            plans,
            output_signature=(
                tf.TensorSpec(examples.shape, tf.int64),
                tf.TensorSpec(cursor.shape, tf.int64),
            ),
        )
        .prefetch(_PLANS_AHEAD)
        .map(load, num_parallel_calls=workers)
        .prefetch(_BATCHES_AHEAD)
        .with_options(options)
    )
    return _Stream(dataset)
