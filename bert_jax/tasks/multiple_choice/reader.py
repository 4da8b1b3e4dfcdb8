"""Examples of several choices for one context: SWAG, HellaSwag, C3 and DREAM."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from bert_jax.tasks.classification.reader import no_labels, text_of
from data_pipeline.errors import DataError
from data_pipeline.files import read_json
from data_pipeline.finetune.examples import Examples
from data_pipeline.finetune.features import Feature, Features, context_inputs, encode_all
from data_pipeline.finetune.tables import Row, plain_text, read_rows, split_source
from data_pipeline.text.clean import clean_text
from data_pipeline.tokenization.interface import Tokenizer

SWAG_ENDINGS = ("ending0", "ending1", "ending2", "ending3")


@dataclasses.dataclass(frozen=True)
class ChoiceExample:
    """A context and what to choose from.

    Attributes:
      place: where it stands, for messages and predictions.
      context: the text that the choice depends on.
      question: what stands before each choice; empty where the choices go on with the context.
      choices: at least two.
      label: number of the right one; None where it is not known.
    """

    place: str
    context: str
    question: str
    choices: tuple[str, ...]
    label: int | None


def read_swag(source: str) -> Examples[ChoiceExample]:
    """The examples of SWAG's tables (arXiv:1808.05326): sent1, sent2, ending0 to ending3, label.

    Raises:
      DataError: a column is not there, a text is empty, a label is not within 0 to 3.
    """
    examples = []
    rows = read_rows(source)
    for row in rows:
        choices = tuple(text_of(row, column) for column in SWAG_ENDINGS)
        # sent2 is the beginning of the sentence that the endings end.
        context, question = text_of(row, "sent1"), text_of(row, "sent2")
        label = _label(row, len(choices))
        examples.append(ChoiceExample(row.place, context, question, choices, label))
    return Examples(examples, [], unlabelled=_unlabelled(source, rows, examples))


def read_hellaswag(source: str) -> Examples[ChoiceExample]:
    """The examples of tables in HellaSwag's form (arXiv:1905.07830): ctx, endings, label.

    Raises:
      DataError: a column is not there, a text is empty, there are less than two endings, or a label
        is not the number of one.
    """
    examples = []
    rows = read_rows(source)
    for row in rows:
        choices = _choices(row["endings"], row.place, "endings")
        label = _label(row, len(choices))
        examples.append(ChoiceExample(row.place, text_of(row, "ctx"), "", choices, label))
    return Examples(examples, [], unlabelled=_unlabelled(source, rows, examples))


def _unlabelled(source: str, rows: Sequence[Row], examples: Sequence[ChoiceExample]) -> str:
    if not rows or any(example.label is not None for example in examples):
        return ""
    return no_labels(source, rows, "label")


def read_questions(source: str) -> Examples[ChoiceExample]:
    """The examples of C3 (arXiv:1904.09679) and DREAM (arXiv:1902.00164).

    The file is one JSON array with an element for each text: [lines of the text, questions, id]; a
    question has the keys "question", "choice" and "answer", the right choice's text.

    Raises:
      DataError: an element has another form, a text is empty, or an answer is not among its
        choices.
    """
    path, chosen = split_source(source)
    elements = read_json(path)
    if not isinstance(elements, list):
        raise DataError(f"{path} is no JSON array of [lines, questions, id]")
    examples = []
    for number, element in list(enumerate(elements))[chosen]:
        place = f"{path}, element {number}"
        try:
            lines, questions = element[:2]
            if isinstance(lines, str):
                raise TypeError("its characters would be taken for lines")
            context = clean_text(" ".join(lines))
            found = [(q["question"], q["choice"], q.get("answer")) for q in questions]
        except (TypeError, ValueError, KeyError, AttributeError):
            raise DataError(
                f"{place} is not of the form [lines, questions, id] with the keys question, choice "
                "and answer in each question"
            ) from None
        if not context:
            raise DataError(f"{place}: its text is empty; leave it out or fill it in")
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
            row = Row(where, {"question": question})
            text = text_of(row, "question")
            examples.append(ChoiceExample(where, context, text, choices, label))
    unlabelled = ""
    if examples and all(example.label is None for example in examples):
        unlabelled = f"{source}: no question has an answer under the key 'answer'"
    return Examples(examples, [], unlabelled=unlabelled)


def typed_choice(texts: Sequence[str]) -> ChoiceExample:
    """The example of a context and its choices that a person typed.

    Raises:
      DataError: one is empty, or there are less than two choices.
    """
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


def check_labelled(examples: Sequence[ChoiceExample]) -> None:
    """Raises DataError where an example has no label to learn from."""
    for example in examples:
        if example.label is None:
            raise DataError(
                f"{example.place}: the right choice is not given; training needs it in each row"
            )


def choice_features(
    examples: Sequence[ChoiceExample], tokenizer: Tokenizer, max_length: int
) -> Features:
    """One feature for each example, its token arrays int32 [C, n].

    C is the largest number of choices of the examples, n the length of the longest choice with its
    context. A choice that an example lacks is a row of zeros, its `attention_mask` too.

    Args:
      examples: with or without labels.
      tokenizer: the model's.
      max_length: tokens, with [CLS] and [SEP]; see `context_inputs` for what is cut.
    """
    width = max((len(example.choices) for example in examples), default=0)
    contexts = encode_all(tokenizer, [example.context for example in examples])
    questions = encode_all(tokenizer, [example.question for example in examples])
    choices = iter(
        encode_all(tokenizer, [text for example in examples for text in example.choices])
    )
    rows, cut = [], 0
    for number, example in enumerate(examples):
        inputs = [
            context_inputs(
                tokenizer,
                contexts[number],
                np.concatenate([questions[number], next(choices)]),
                max_length,
            )
            for _ in example.choices
        ]
        cut += any(choice.cut > 0 for choice in inputs)
        length = max(len(choice.tokens["input_ids"]) for choice in inputs)
        tokens = {}
        for name in inputs[0].tokens:
            tokens[name] = np.zeros((width, length), np.int32)
            for place, choice in enumerate(inputs):
                tokens[name][place, : len(choice.tokens[name])] = choice.tokens[name]
        values = {
            "labels": np.asarray(example.label or 0, np.int32),
            "weights": np.asarray(example.label is not None, np.float32),
        }
        rows.append(Feature(tokens, values, number))
    return Features(rows, cut)
