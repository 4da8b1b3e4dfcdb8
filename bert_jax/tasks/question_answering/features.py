"""Features of questions: the question beside windows of its context, as in run_squad.py (2018)."""

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
_Notes = dict[str, list[str]]  # ids of questions by what is said of them
# In this order; where nothing is learned only the first two.
_SAID = {
    "cut": "longer than {} tokens and cut",
    "elsewhere": "with an answer that is not at answer_start, nor once elsewhere",
    "moved": "with their answer once, but not at answer_start, so used where it is",
    "unanswered": "left out, without an answer",
    "uncertain": "left out, as their answers stand at several places",
    "vanished": "left out, as no token stands for their answer",
    "too_long": "left out, as no window holds their whole answer",
}


class ContextWindow(NamedTuple):
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
    how: Encoding,
    *,
    doc_stride: int,
    max_question_tokens: int,
    unanswerable: bool,
) -> Features:
    """[CLS] question [SEP] window of the context [SEP], as many as cover the context.

    "labels", int32 [2], are the positions of the answer's first and last token. Where
    `unanswerable` allows it, both are 0, that of [CLS], for a window that does not hold the whole
    answer. Else, and where the answer is not known, the weight is 0, or, in training, the feature
    is left out.

    Args:
      examples: with answers or without.
      how: tokenizer and length. In training, features without anything to learn from are left out;
        otherwise the `decoding` of each is its `ContextWindow`.
      doc_stride: tokens between the beginnings of two windows; half a window where windows are no
        longer than this, so that they always overlap.
      max_question_tokens: a question loses what it has beyond these.
      unanswerable: whether there are questions without an answer.
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
    example: QuestionExample, context: _Context, training: bool, notes: _Notes
) -> tuple[int, int] | None:
    """The first and the last token of the answer, None where there is nothing to learn from."""
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
    """A line for each kind of question that there is."""
    return tuple(
        f"questions {_SAID[name].format(max_question_tokens)}: {len(ids):,} "
        f"({', '.join(ids[:_NAMED])}"
        + (f" and {len(ids) - _NAMED:,} more)" if len(ids) > _NAMED else ")")
        for name, ids in list(notes.items())[: None if training else 2]
        if ids
    )
