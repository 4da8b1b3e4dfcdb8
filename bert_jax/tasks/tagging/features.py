"""Features of texts with entities: pieces aligned with words, overlapping windows."""

from collections.abc import Sequence

import numpy as np

from bert_jax.tasks.tagging.reader import TaggedText, tags_at
from bert_jax.tasks.task import Encoding
from data_pipeline.errors import DataError
from data_pipeline.finetune.features import Feature, Features, encode_all, framed
from data_pipeline.finetune.windows import token_windows
from data_pipeline.tokenization.interface import Tokenizer

SHORTEST_WINDOW = 8  # tokens, [CLS] and [SEP] among them


def tagged_features(examples: Sequence[TaggedText], how: Encoding) -> Features:
    """One feature for each window of each example; nothing is cut.

    A tag belongs to the first piece of its unit. Where windows overlap, it counts only in the one
    with the most context for it. Besides the token arrays a feature has

    - labels: int32 [n], the tag, 0 where there is none;
    - weights: float32 [n], 0 where there is no tag;
    - unit_starts: int32 [n], 1 + the first character of the unit whose tag is here, else 0.
    """
    if how.max_length < SHORTEST_WINDOW:
        raise DataError(
            f"sequence_length {how.max_length} is too short to tag in windows; give at least "
            f"{SHORTEST_WINDOW}"
        )
    tokenizer = how.tokenizer
    number = {label: index for index, label in enumerate(how.labels)}
    weight = np.array(how.class_weights or [1.0] * len(how.labels), np.float32)
    rows = []
    for index, (ids, starts) in enumerate(align(examples, tokenizer)):
        tags, weights = np.zeros(len(ids), np.int32), np.zeros(len(ids), np.float32)
        if (entities := examples[index].entities) is not None:
            units = np.flatnonzero(starts >= 0)
            tags[units] = [number.get(tag, 0) for tag in tags_at(starts[units], entities)]
            weights[units] = weight[tags[units]]
        for first, end, mine in token_windows(len(ids), how.max_length - 2, full=True):
            tokens = framed(tokenizer, ids[first:end])
            read = mine & (starts[first:end] >= 0)
            tokens["labels"] = _framed(np.where(read, tags[first:end], 0))
            tokens["weights"] = _framed(np.where(read, weights[first:end], np.float32(0)))
            tokens["unit_starts"] = _framed(np.where(read, starts[first:end] + 1, 0))
            rows.append(Feature(tokens, {}, index))
    return Features(rows, 0)


def _framed(values: np.ndarray) -> np.ndarray:
    """With zeros for [CLS] and [SEP]."""
    return np.pad(values, 1)


def align(
    examples: Sequence[TaggedText], tokenizer: Tokenizer
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The pieces of each text and the units that they begin.

    Words are encoded one by one, so that each begins with a piece; one that normalizes to nothing
    (control characters) becomes [UNK]. Without words each piece is a unit; of several that begin at
    the same character (decomposed Hangul) only the first.

    Returns:
      For each example the ids, integer [n], and int32 [n], increasing: for a piece that begins a
      unit its first character, else -1.
    """
    words = [example.text[start:end] for example in examples for start, end in example.words or ()]
    of_words = iter(encode_all(tokenizer, words))
    whole = [example.text for example in examples if example.words is None]
    of_whole = iter(encode_all(tokenizer, whole))
    offsets = tokenizer.token_offsets(whole)
    unknown = np.array([tokenizer.special_ids["unk"]])
    aligned = []
    for example in examples:
        if example.words is None:
            ids = next(of_whole)
            starts, offsets = _after_space(offsets[: len(ids)], example.text), offsets[len(ids) :]
            starts[1:][np.diff(starts) == 0] = -1
        else:
            pieces = [next(of_words) for _ in example.words]
            pieces = [word if len(word) else unknown for word in pieces]
            ids = np.concatenate(pieces)
            starts = np.full(len(ids), -1, np.int32)
            firsts = np.cumsum([0, *map(len, pieces)])[:-1]
            starts[firsts] = [start for start, _ in example.words]
        aligned.append((ids, starts))
    return aligned


def _after_space(offsets: np.ndarray, text: str) -> np.ndarray:
    """Each offset, int32 [n], moved past the white space that begins a SentencePiece piece."""
    visible = np.array([index for index, c in enumerate(text) if not c.isspace()])
    places = np.searchsorted(visible, offsets)
    return visible[np.minimum(places, len(visible) - 1)].astype(np.int32)
