"""Features of questions: the question beside windows of its context, as in run_squad.py (2018)."""

import functools
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bert_jax.tasks.question_answering.reader import QuestionExample, answer_span
from data_pipeline.errors import DataError
from data_pipeline.finetune.features import Feature, Features, encode_all, token_arrays
from data_pipeline.tokenization.interface import Tokenizer

MINIMUM_WINDOW = 16  # tokens of the context that have to fit beside a question
_NAMED = 5  # questions that a note names


class Window(NamedTuple):
    """The part of a context that a feature holds: what an answer is made of.

    Attributes:
      position: of its first token in the feature.
      starts, ends: int64 [w], the characters of the context of each token; end exclusive.
      is_maximum: bool [w], whether it is in this window that the token has most context.
    """

    position: int
    starts: np.ndarray
    ends: np.ndarray
    is_maximum: np.ndarray


class _Context(NamedTuple):
    ids: list[int]
    starts: np.ndarray
    ends: np.ndarray


def question_features(
    examples: Sequence[QuestionExample],
    tokenizer: Tokenizer,
    max_length: int,
    *,
    doc_stride: int,
    max_question_tokens: int,
    unanswerable: bool,
    training: bool,
) -> Features:
    """[CLS] question [SEP] window of the context [SEP], as many as cover the context.

    "labels", int32 [2], are the positions of the answer's first and last token. Where
    `unanswerable` allows it, both are 0, that of [CLS], for a window that does not hold the whole
    answer. Else, and where the answer is not known, the weight is 0, or, in training, the feature
    is left out.

    Args:
      examples: with answers or without.
      tokenizer: the model's.
      max_length: tokens of a feature.
      doc_stride: tokens between the beginnings of two windows; half a window where windows are no
        longer than this, so that they always overlap.
      max_question_tokens: a question loses what it has beyond these.
      unanswerable: whether there are questions without an answer.
      training: leave out what cannot be learned from. Otherwise each feature's `decoding` is its
        `Window`.

    Raises:
      DataError: too little room for the context; in training, no answer of a question fits.
    """
    texts = list(dict.fromkeys(example.context for example in examples))
    contexts = dict(zip(texts, _contexts(texts, tokenizer), strict=True))
    questions = encode_all(tokenizer, [example.question for example in examples])
    cls, sep = tokenizer.special_ids["cls"], tokenizer.special_ids["sep"]
    notes = _Notes()
    rows: list[Feature] = []
    for number, (example, whole) in enumerate(zip(examples, questions, strict=True)):
        question = whole[:max_question_tokens].tolist()
        if len(question) < len(whole):
            notes.cut.append(example.id)
        size = max_length - len(question) - 3
        if size < MINIMUM_WINDOW:
            raise DataError(
                f"{example.place}: its {len(question)} tokens leave only {max(size, 0)} of the "
                f"sequence_length {max_length} for the context; give at least "
                f"{max_length - size + MINIMUM_WINDOW}"
            )
        context = contexts[example.context]
        firsts = window_starts(len(context.ids), size, doc_stride)
        is_null = unanswerable and example.answers == ()
        answer = None if is_null else _answer_tokens(example, context, training, notes)
        held = [answer and first <= answer[0] and answer[1] < first + size for first in firsts]
        if answer and not any(held):
            notes.too_long.append(example.id)
            answer = None
        if training and not answer and not is_null:
            continue
        maximum = maximum_windows(firsts, size, len(context.ids))
        position = len(question) + 2
        for index, first in enumerate(firsts):
            part = slice(first, first + size)
            labels, weight = np.zeros(2, np.int32), float(is_null)
            if answer is not None:
                weight = float(held[index] or unanswerable)
                if held[index]:
                    labels = np.array(answer, np.int32) - first + position
            if training and not weight:
                continue
            window = (
                None
                if training
                else Window(
                    position, context.starts[part], context.ends[part], maximum[part] == index
                )
            )
            ids = [cls, *question, sep, *context.ids[part], sep]
            types = [0] * position + [1] * (len(ids) - position)
            values = {"labels": labels, "weights": np.asarray(weight, np.float32)}
            rows.append(Feature(token_arrays(ids, types), values, number, window))
    return Features(rows, 0, notes.lines(max_question_tokens, training))


def window_starts(length: int, size: int, stride: int) -> list[int]:
    """The first token of each window over `length` tokens; the last window ends with them.

    >>> window_starts(10, 6, 3), window_starts(5, 6, 3), window_starts(10, 4, 128)
    ([0, 3, 6], [0], [0, 2, 4, 6])
    """
    if stride >= size:
        stride = (size + 1) // 2
    return list(range(0, max(length - size, 0) + stride, stride))


def maximum_windows(firsts: Sequence[int], size: int, length: int) -> np.ndarray:
    """The window in which each token has its maximum context, int64 [length].

    It is that with the largest minimum of the tokens to the left and those to the right, plus a
    hundredth of the window's length; on ties the first (run_squad.py, `_check_is_max_context`).
    """
    tokens = np.arange(length)
    starts = np.array(firsts)[:, None]
    ends = np.minimum(starts + size, length)
    # A hundred times the original's score, so that all is whole numbers and ties are exact.
    score = 100 * np.minimum(tokens - starts, ends - 1 - tokens) + ends - starts
    inside = (tokens >= starts) & (tokens < ends)
    return np.argmax(np.where(inside, score, -1), axis=0)


def _contexts(texts: Sequence[str], tokenizer: Tokenizer) -> list[_Context]:
    ids = encode_all(tokenizer, texts)
    if not texts:
        return []
    offsets = np.split(tokenizer.token_offsets(texts), np.cumsum([len(part) for part in ids])[:-1])
    found = []
    for text, part, starts in zip(texts, ids, offsets, strict=True):
        # A token ends where the next one starts that does not start with it.
        following = np.append(starts, len(text))[np.searchsorted(starts, starts, side="right")]
        trimmed = [
            _trimmed(text, a, b) for a, b in zip(starts.tolist(), following.tolist(), strict=True)
        ]
        bounds = np.array(trimmed, np.int64).reshape(-1, 2)
        found.append(_Context(part.tolist(), bounds[:, 0], bounds[:, 1]))
    return found


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The characters without spaces and control characters at both ends."""
    while start < end and _is_blank(text[end - 1]):
        end -= 1
    while start < end and _is_blank(text[start]):
        start += 1
    return start, end


@functools.cache
def _is_blank(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in ("Cc", "Cf")


def _answer_tokens(
    example: QuestionExample, context: _Context, training: bool, notes: "_Notes"
) -> tuple[int, int] | None:
    """The first and the last token of the answer, None where there is nothing to learn from."""
    if not example.answers:
        notes.unanswered.append(example.id)
        return None
    try:
        span = answer_span(example)
    except DataError:
        if training:
            raise
        notes.elsewhere.append(example.id)
        return None
    if span is None:
        notes.uncertain.append(example.id)
        return None
    if span.moved:
        notes.moved.append(example.id)
    first = int(np.searchsorted(context.ends, span.start, side="right"))
    last = int(np.searchsorted(context.starts, span.end, side="left")) - 1
    if first > last:
        notes.vanished.append(example.id)
        return None
    return first, last


class _Notes:
    """Which questions are not as they should be."""

    def __init__(self) -> None:
        self.cut: list[str] = []
        self.unanswered: list[str] = []
        self.uncertain: list[str] = []
        self.moved: list[str] = []
        self.elsewhere: list[str] = []
        self.vanished: list[str] = []
        self.too_long: list[str] = []

    def lines(self, max_question_tokens: int, training: bool) -> tuple[str, ...]:
        """A line for each kind that there is; those about learning only in training."""
        kinds = [
            (self.cut, f"longer than {max_question_tokens} tokens and cut"),
            (self.elsewhere, "with an answer that is not at answer_start, nor once elsewhere"),
        ]
        if training:
            kinds += [
                (
                    self.moved,
                    "with their answer once, but not at answer_start, so used where it is",
                ),
                (self.unanswered, "left out, without an answer"),
                (self.uncertain, "left out, as their answers stand at several places"),
                (self.vanished, "left out, as no token stands for their answer"),
                (self.too_long, "left out, as no window holds their whole answer"),
            ]
        return tuple(
            f"questions {what}: {len(ids):,} ({', '.join(ids[:_NAMED])}"
            + (f" and {len(ids) - _NAMED:,} more)" if len(ids) > _NAMED else ")")
            for ids, what in kinds
            if ids
        )
