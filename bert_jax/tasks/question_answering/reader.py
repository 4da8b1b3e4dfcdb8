"""Questions whose answer is a part of a text: SQuAD's JSON, and rows of tables in its columns."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from data_pipeline import tfds
from data_pipeline.errors import DataError
from data_pipeline.files import read_json
from data_pipeline.finetune.examples import Examples
from data_pipeline.finetune.tables import (
    Row,
    filled,
    read_rows,
    split_source,
    suffix_of,
)


class Answer(NamedTuple):
    """An answer as it stands in a file.

    Attributes:
      text: its words.
      start: the character of the context that they begin at; -1 where it is not known.
      certain: whether `start` is where the annotator saw it; False for one of several places where
        the same words stand.
    """

    text: str
    start: int
    certain: bool = True


@dataclasses.dataclass(frozen=True)
class QuestionExample:
    """A question about a text.

    Attributes:
      place: where it stands, for messages.
      id: of the question, unique in its file.
      question: the question.
      context: the text, as it stands in the file: positions in it are of this very string.
      answers: all that count as right; none for a question that the text does not answer; None
        where they are not known.
      is_impossible: the file says that the text does not answer it.
    """

    place: str
    id: str
    question: str
    context: str
    answers: tuple[Answer, ...] | None
    is_impossible: bool = False


class Span(NamedTuple):
    """Characters `start` to `end` (exclusive) of a context; `moved` from where the file said."""

    start: int
    end: int
    moved: bool


def read_questions(source: str) -> Examples[QuestionExample]:
    """The questions of a file.

    Args:
      source: a file in SQuAD's JSON (1.1, 2.0, CMRC2018, DRCD), with "[A:B]" after it for some of
        its articles, as Python slices the list "data". Or a table, .jsonl or
        "tfds:squad/v1.1/train", with the columns id, question, context and answers, in which
        answers holds the lists "text" and "answer_start".
    """
    if source.startswith(tfds.PREFIX) or suffix_of(source) == ".jsonl":
        examples = [_of_row(row) for row in read_rows(source)]
    else:
        examples = list(_of_articles(source))
    seen: set[str] = set()
    for example in examples:
        if example.id in seen:
            raise DataError(f"{example.place} stands twice; give each question an id of its own")
        seen.add(example.id)
    unlabelled = ""
    if examples and all(example.answers is None for example in examples):
        unlabelled = f"{source}: no question has 'answers'"
    return Examples(examples, [], unlabelled=unlabelled)


def typed_question(question: str, context: str) -> QuestionExample:
    """The question that a person typed."""
    filled(question, "typed", "question")
    filled(context, "typed", "context")
    return QuestionExample("typed", "typed", question, context, None)


def _of_articles(source: str) -> Iterator[QuestionExample]:
    path, chosen = split_source(source)
    value = read_json(path)
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        raise DataError(
            f'{path} is not in SQuAD\'s form: {{"data": [{{"paragraphs": [{{"context": ..., "qas": '
            '[{"id": ..., "question": ..., "answers": [{"text": ..., "answer_start": ...}]}]}]}]}'
        )
    articles = list(enumerate(value["data"]))
    if not articles[chosen]:
        raise DataError(f"{source} holds no article; there are {len(articles)} in the file")
    for number, article in articles[chosen]:
        place = f"{path}, article {number}"
        for index, paragraph in enumerate(_field(article, "paragraphs", list, place)):
            here = f"{place}, paragraph {index}"
            context = _field(paragraph, "context", str, here)
            for record in _field(paragraph, "qas", list, here):
                yield _question(record, context, path, here, _listed_answers)


def _of_row(row: Row) -> QuestionExample:
    for column in ("id", "question", "context"):
        row[column]  # a column that is not there is named, with those that are
    context = _field(row.values, "context", str, row.place)
    return _question(row.values, context, row.place, row.place, _parallel_answers)


def _question(
    record: Any, context: str, source: str, place: str, read_answers: Any
) -> QuestionExample:
    name = record.get("id") if isinstance(record, dict) else None
    if not isinstance(name, str | int) or name == "":
        raise DataError(f"{place}: a question has no id, but {name!r}")
    place = f"{source}, question {name}"
    question = _field(record, "question", str, place)
    is_impossible = record.get("is_impossible") or False
    if is_impossible not in (False, True):
        raise DataError(f"{place}: its 'is_impossible' is {is_impossible!r}, not true or false")
    answers = read_answers(record, place) if record.get("answers") is not None else None
    if any(not answer.text.strip() for answer in answers or ()):
        raise DataError(f"{place} has an empty answer; leave it out or fill it in")
    if is_impossible:
        if answers:
            raise DataError(
                f"{place} has answers, such as {answers[0].text[:40]!r}, though its "
                "'is_impossible' is true; correct one of them"
            )
        answers = ()
    filled(question, place, "question")
    filled(context, place, "context")
    return QuestionExample(place, str(name), question, context, answers, bool(is_impossible))


def _listed_answers(record: Any, place: str) -> tuple[Answer, ...]:
    return tuple(
        Answer(
            _field(answer, "text", str, place),
            _field(answer, "answer_start", int, place),
            # How often the words stand in the context, where a file says so: its position is then
            # that of the first.
            answer.get("n_matches", 1) == 1,
        )
        for answer in _field(record, "answers", list, place)
    )


def _parallel_answers(record: Any, place: str) -> tuple[Answer, ...]:
    answers = _field(record, "answers", dict, place)
    texts = _field(answers, "text", list, place)
    starts = _field(answers, "answer_start", list, place)
    if len(texts) != len(starts):
        raise DataError(
            f"{place}: its answers have {len(texts)} texts, but {len(starts)} positions"
        )
    for text, start in zip(texts, starts, strict=True):
        if not isinstance(text, str) or not isinstance(start, int):
            raise DataError(
                f"{place}: its answer must be a text and a number, not {str(text)[:40]!r} and "
                f"{str(start)[:40]!r}"
            )
    return tuple(map(Answer, texts, starts))


_NAMES = {list: "a list", str: "a text", int: "a number", dict: "an object"}


def _field(record: Any, name: str, kind: type, place: str) -> Any:
    value = record.get(name) if isinstance(record, dict) else None
    if not isinstance(value, kind):
        raise DataError(f"{place}: its {name!r} must be {_NAMES[kind]}, not {str(value)[:40]!r}")
    return value


def answer_span(example: QuestionExample) -> Span | None:
    """Which characters are the answer to learn from: the first that surely stands where it says.

    If there is none, the first sure one that stands elsewhere, and there only once. None where no
    position is sure; a `DataError` where sure positions are given, but none fits the context.
    """
    certain = [answer for answer in example.answers or () if answer.certain]
    for text, start, _ in certain:
        if start >= 0 and example.context.startswith(text, start):
            return Span(start, start + len(text), moved=False)
    for text, _, _ in certain:
        start = example.context.find(text)
        if start >= 0 and example.context.find(text, start + 1) < 0:
            return Span(start, start + len(text), moved=True)
    if not certain:
        return None
    text, start, _ = certain[0]
    there = example.context[start : start + len(text)] if start >= 0 else ""
    raise DataError(
        f"{example.place}: the answer {text!r} is not at character {start} of the context, where "
        f"{there!r} is; correct answer_start or leave the question out"
    )
