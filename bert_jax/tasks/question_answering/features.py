"""Features of questions: each with the windows of its context, as in run_squad.py (2018)."""

import functools
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bert_jax.tasks.question_answering.reader import QuestionExample, answer_span
from bert_jax.tasks.task import Encoding
from data_pipeline.errors import DataError
from data_pipeline.finetune.features import Features, encode_all, framed, labelled
from data_pipeline.finetune.windows import token_windows
from data_pipeline.tokenization.interface import Tokenizer

MINIMUM_WINDOW = 16  # tokens of the context that have to fit beside a question
_NAMED = 5  # questions that a note names
_Notes = dict[str, list[str]]  # ids of questions by the key of their note
# In this order; only the first two where nothing is learned.
_SAID = {
    "cut": "longer than {} tokens and cut",
    "elsewhere": "with an answer that is not at answer_start, nor once elsewhere",
    "moved": "with their answer once, but not at answer_start, so used where it is",
    "unanswered": "left out, without an answer",
    "uncertain": "left out, as their answers occur in several places",
    "vanished": "left out, as no token is left of their answer",
    "too_long": "left out, as no window holds their whole answer",
}


class ContextWindow(NamedTuple):
    """The part of a context that a feature holds.

    Attributes:
      position: of its first token in the feature.
      starts, ends: int64 [w], the characters of each token in the context; the end is exclusive.
      is_maximum: bool [w], whether the token has its maximum context in this window.
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
    how: Encoding,
    *,
    doc_stride: int,
    max_question_tokens: int,
    unanswerable: bool,
) -> Features:
    """[CLS] question [SEP] window of the context [SEP], as many as cover the context.

    "labels", int32 [2], are the positions of the answer's first and last token. With `unanswerable`
    (there are questions without an answer) both are 0, that of [CLS], for a window without the
    whole answer. Otherwise, and where the answer is not known, the weight is 0; in training, such a
    feature is left out. Outside training, the `decoding` of each is its `ContextWindow`.

    `doc_stride` is the `stride` of `token_windows`; a question is cut to `max_question_tokens`.
    """
    tokenizer, training = how.tokenizer, how.training
    texts = list(dict.fromkeys(example.context for example in examples))
    contexts = dict(zip(texts, _contexts(texts, tokenizer), strict=True))
    questions = encode_all(tokenizer, [example.question for example in examples])
    notes: _Notes = {name: [] for name in _SAID}
    rows = []
    for number, (example, whole) in enumerate(zip(examples, questions, strict=True)):
        question = whole[:max_question_tokens].tolist()
        if len(question) < len(whole):
            notes["cut"].append(example.id)
        size = how.max_length - len(question) - 3
        if size < MINIMUM_WINDOW:
            raise DataError(
                f"{example.place}: its {len(question)} tokens leave only {max(size, 0)} of the "
                f"sequence_length {how.max_length} for the context; give at least "
                f"{how.max_length - size + MINIMUM_WINDOW}"
            )
        context = contexts[example.context]
        windows = token_windows(len(context.ids), size, doc_stride)
        is_null = unanswerable and example.answers == ()
        answer = None if is_null else _answer_tokens(example, context, training, notes)
        held = [answer and first <= answer[0] and answer[1] < first + size for first, *_ in windows]
        if answer and not any(held):
            notes["too_long"].append(example.id)
            answer = None
        if training and not answer and not is_null:
            continue
        position = len(question) + 2
        for (first, end, has_most), is_held in zip(windows, held, strict=True):
            labels, weight = np.zeros(2, np.int32), float(is_null)
            if answer is not None:
                weight = float(is_held or unanswerable)
                if is_held:
                    labels = np.array(answer, np.int32) - first + position
            if training and not weight:
                continue
            tokens = framed(tokenizer, question, context.ids[first:end])
            feature = labelled(tokens, labels, weight, number)
            if not training:
                starts, ends = context.starts[first:end], context.ends[first:end]
                window = ContextWindow(position, starts, ends, has_most)
                feature = feature._replace(decoding=window)
            rows.append(feature)
    return Features(rows, 0, _lines(notes, max_question_tokens, training))


def _contexts(texts: Sequence[str], tokenizer: Tokenizer) -> list[_Context]:
    ids = encode_all(tokenizer, texts)
    if not texts:
        return []
    offsets = np.split(tokenizer.token_offsets(texts), np.cumsum([len(part) for part in ids])[:-1])
    found = []
    for text, part, starts in zip(texts, ids, offsets, strict=True):
        # A token ends where the next one with another start begins.
        following = np.append(starts, len(text))[np.searchsorted(starts, starts, side="right")]
        spans = zip(starts.tolist(), following.tolist(), strict=True)
        bounds = np.array([_trimmed(text, *span) for span in spans], np.int64).reshape(-1, 2)
        found.append(_Context(part.tolist(), bounds[:, 0], bounds[:, 1]))
    return found


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without spaces and control characters at both ends."""
    while start < end and _is_blank(text[end - 1]):
        end -= 1
    while start < end and _is_blank(text[start]):
        start += 1
    return start, end


@functools.cache
def _is_blank(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in ("Cc", "Cf")


def _answer_tokens(
    example: QuestionExample, context: _Context, training: bool, notes: _Notes
) -> tuple[int, int] | None:
    """The first and the last token of the answer; None where there is nothing to learn from."""
    if not example.answers:
        notes["unanswered"].append(example.id)
        return None
    try:
        span = answer_span(example)
    except DataError:
        if training:
            raise
        notes["elsewhere"].append(example.id)
        return None
    if span is None:
        notes["uncertain"].append(example.id)
        return None
    if span.moved:
        notes["moved"].append(example.id)
    first = int(np.searchsorted(context.ends, span.start, side="right"))
    last = int(np.searchsorted(context.starts, span.end, side="left")) - 1
    if first > last:
        notes["vanished"].append(example.id)
        return None
    return first, last


def _lines(notes: _Notes, max_question_tokens: int, training: bool) -> tuple[str, ...]:
    """A line for each kind of note."""
    return tuple(
        f"questions {_SAID[name].format(max_question_tokens)}: {len(ids):,} "
        f"({', '.join(ids[:_NAMED])}"
        + (f" and {len(ids) - _NAMED:,} more)" if len(ids) > _NAMED else ")")
        for name, ids in list(notes.items())[: None if training else 2]
        if ids
    )
