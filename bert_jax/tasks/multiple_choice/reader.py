"""Examples of several choices for one context: SWAG, HellaSwag, C3 and DREAM."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from bert_jax.tasks.columns import no_labels, text_of
from data_pipeline.errors import DataError
from data_pipeline.files import read_json
from data_pipeline.finetune.examples import Examples
from data_pipeline.finetune.tables import Row, filled, plain_text, read_rows, split_source
from data_pipeline.text.clean import clean_text


@dataclasses.dataclass(frozen=True)
class ChoiceExample:
    """A context and what to choose from.

    Attributes:
      place: where it is, for messages and predictions.
      question: comes before each choice; empty where the choices continue the context.
      choices: at least two.
      label: index of the right one; None where it is not known.
    """

    place: str
    context: str
    question: str
    choices: tuple[str, ...]
    label: int | None


def read_swag(source: str) -> Examples[ChoiceExample]:
    """The examples of SWAG's tables (arXiv:1808.05326): sent1, sent2, ending0 to ending3, label."""
    # sent2 is the beginning of the sentence that the endings complete.
    return _read_table(
        source, "sent1", "sent2", lambda row: tuple(text_of(row, f"ending{n}") for n in range(4))
    )


def read_hellaswag(source: str) -> Examples[ChoiceExample]:
    """The examples of HellaSwag's tables (arXiv:1905.07830): ctx, endings, label."""
    return _read_table(
        source, "ctx", "", lambda row: _choices(row["endings"], row.place, "endings")
    )


def _read_table(
    source: str, context: str, question: str, choices_of: Callable[[Row], tuple[str, ...]]
) -> Examples[ChoiceExample]:
    examples = []
    rows = read_rows(source)
    for row in rows:
        choices = choices_of(row)
        texts = text_of(row, context), text_of(row, question) if question else ""
        examples.append(ChoiceExample(row.place, *texts, choices, _label(row, len(choices))))
    unlabelled = no_labels(source, rows, "label", (example.label for example in examples))
    return Examples(examples, [], unlabelled=unlabelled)


def read_questions(source: str) -> Examples[ChoiceExample]:
    """The examples of C3 (arXiv:1904.09679) and DREAM (arXiv:1902.00164).

    The file is a JSON array of texts: [lines of the text, questions, id]; a question has the keys
    "question", "choice" and "answer", the text of the right choice.
    """
    path, chosen = split_source(source)
    elements = read_json(path)
    if not isinstance(elements, list):
        raise DataError(f"{path} is not a JSON array of [lines, questions, id]")
    examples = []
    for number, element in list(enumerate(elements))[chosen]:
        place = f"{path}, element {number}"
        try:
            lines, questions = element[:2]
            if isinstance(lines, str):
                raise TypeError("its characters would be taken as lines")
            context = clean_text(" ".join(lines))
            found = [(q["question"], q["choice"], q.get("answer")) for q in questions]
        except (TypeError, ValueError, KeyError, AttributeError):
            raise DataError(
                f"{place} is not of the form [lines, questions, id] with the keys question, choice "
                "and answer in each question"
            ) from None
        filled(context, place, "text")
        for count, (question, choice, answer) in enumerate(found, 1):
            where = f"{place}, question {count}"
            choices = _choices(choice, where, "choice")
            label = None
            if right := clean_text("" if answer is None else str(answer)):
                if right not in choices:
                    raise DataError(
                        f"{where}: the answer {right!r} is not among its choices: "
                        f"{', '.join(map(repr, choices))}"
                    )
                label = choices.index(right)
            text = text_of(Row(where, {"question": question}), "question")
            examples.append(ChoiceExample(where, context, text, choices, label))
    unlabelled = ""
    if examples and all(example.label is None for example in examples):
        unlabelled = f"{source}: no question has an answer under the key 'answer'"
    return Examples(examples, [], unlabelled=unlabelled)


def typed_choice(texts: Sequence[str]) -> ChoiceExample:
    """The example of a context and its choices typed by a user."""
    context, *choices = texts
    row = Row("typed", {"context": context})
    found = _choices(choices, row.place, "choices")
    return ChoiceExample(row.place, text_of(row, "context"), "", found, None)


def _choices(values: Any, place: str, name: str) -> tuple[str, ...]:
    if not isinstance(values, list) or len(values) < 2:
        raise DataError(f"{place}: its {name} is {values!r}; it must be a list of at least two")
    texts = tuple(clean_text(plain_text(value, place, name)) for value in values)
    if "" in texts:
        raise DataError(
            f"{place}: choice {texts.index('')} is empty; leave the row out or fill it in"
        )
    return texts


def _label(row: Row, count: int) -> int | None:
    value = row.values.get("label")
    if value is None or value == "":
        return None
    text = str(value).strip()
    if not text.isascii() or not text.isdecimal() or int(text) >= count:
        raise DataError(
            f"{row.place}: the label {value!r} is not the number of a choice, 0 to {count - 1}"
        )
    return int(text)
