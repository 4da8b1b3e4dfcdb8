"""Questions whose answer is a part of a text: SQuAD's JSON, and tables with its columns."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from data_pipeline import tfds
from data_pipeline.errors import DataError
from data_pipeline.files import read_json
from data_pipeline.finetune.examples import Examples
from data_pipeline.finetune.tables import Row, filled, read_rows, split_source, suffix_of


class Answer(NamedTuple):
    """An answer as given in a file.

    Attributes:
      start: the character of the context where it begins; -1 where it is not known.
      certain: whether `start` is where the annotator saw it, not the first of several places with
        the same words.
    """

    text: str
    start: int
    certain: bool = True


@dataclasses.dataclass(frozen=True)
class QuestionExample:
    """A question about a text.

    Attributes:
      place: where it is, for messages.
      id: unique in its file.
      context: the text, exactly as in the file, so that positions in it hold.
      answers: all that count as right; empty for a question that the text does not answer; None
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

    It is SQuAD's JSON (1.1, 2.0, CMRC2018, DRCD), with "[A:B]" after it for some of its articles,
    as Python slices the list "data". Or it is a table, .jsonl or "tfds:squad/v1.1/train", with the
    columns id, question, context and answers, which holds the lists "text" and "answer_start".
    """
    if source.startswith(tfds.PREFIX) or suffix_of(source) == ".jsonl":
        examples = [_of_row(row) for row in read_rows(source)]
    else:
        examples = list(_of_articles(source))
    seen: set[str] = set()
    for example in examples:
        if example.id in seen:
            raise DataError(f"{example.place} occurs twice; give each question its own id")
        seen.add(example.id)
    unlabelled = ""
    if examples and all(example.answers is None for example in examples):
        unlabelled = f"{source}: no question has 'answers'"
    return Examples(examples, [], unlabelled=unlabelled)


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
                yield _question(record, context, path, here)


def _of_row(row: Row) -> QuestionExample:
    for column in ("id", "question", "context"):
        row[column]  # a missing column is named, with those that exist
    context = _field(row.values, "context", str, row.place)
    return _question(row.values, context, row.place, row.place)


def _question(record: Any, context: str, source: str, place: str) -> QuestionExample:
    name = record.get("id") if isinstance(record, dict) else None
    if not isinstance(name, str | int) or name == "":
        raise DataError(f"{place}: a question has no id, but {name!r}")
    place = f"{source}, question {name}"
    question = _field(record, "question", str, place)
    is_impossible = record.get("is_impossible") or False
    if is_impossible not in (False, True):
        raise DataError(f"{place}: its 'is_impossible' is {is_impossible!r}, not true or false")
    answers = _answers(record, place) if record.get("answers") is not None else None
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


def _answers(record: dict[str, Any], place: str) -> tuple[Answer, ...]:
    if isinstance(record["answers"], dict):  # a table's lists
        texts = _field(record["answers"], "text", list, place)
        starts = _field(record["answers"], "answer_start", list, place)
        if len(texts) != len(starts):
            raise DataError(
                f"{place}: its answers have {len(texts)} texts, but {len(starts)} positions"
            )
        pairs = zip(texts, starts, strict=True)
        record = {"answers": [{"text": text, "answer_start": start} for text, start in pairs]}
    return tuple(
        Answer(
            _field(answer, "text", str, place),
            _field(answer, "answer_start", int, place),
            # How often the words occur in the context, where a file says so: the position is then
            # that of the first.
            answer.get("n_matches", 1) == 1,
        )
        for answer in _field(record, "answers", list, place)
    )


_NAMES = {list: "a list", str: "a text", int: "a number", dict: "an object"}


def _field(record: Any, name: str, kind: type, place: str) -> Any:
    value = record.get(name) if isinstance(record, dict) else None
    if not isinstance(value, kind):
        raise DataError(f"{place}: its {name!r} must be {_NAMES[kind]}, not {str(value)[:40]!r}")
    return value


def answer_span(example: QuestionExample) -> Span | None:
    """The characters of the answer to learn from: the first certain one that is where it says.

    If there is none, the first certain one that occurs elsewhere, exactly once. None where no
    position is certain; a `DataError` where some are, but none fits the context.
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
