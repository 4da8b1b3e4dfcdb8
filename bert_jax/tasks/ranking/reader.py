"""Examples of texts to put in order: passages of a query, responses of a dialogue."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from bert_jax.tasks.classification.reader import Columns, no_labels, text_of
from data_pipeline.errors import DataError
from data_pipeline.finetune.examples import Examples
from data_pipeline.finetune.features import Feature, Features, Inputs, encode_all
from data_pipeline.finetune.tables import Row, read_lines, read_rows, split_source
from data_pipeline.keyed_random import derive_key, random_bits, uniform_below
from data_pipeline.text.clean import clean_text
from data_pipeline.tokenization.interface import Tokenizer

END_OF_TURN = "__eou__"
_SEED = 0  # of the responses of other dialogues: a file always has the same ones
_SPARE = 16  # draws


@dataclasses.dataclass(frozen=True)
class RankingExample:
    """A query and the candidates that are to be ordered.

    Attributes:
      place: where it stands, for messages and predictions.
      query: its texts; the turns of a dialogue, else one.
      candidates: at least one.
      relevant: which of the candidates answer; None where that is not known.
    """

    place: str
    query: tuple[str, ...]
    candidates: tuple[str, ...]
    relevant: tuple[bool, ...] | None


def read_passages(source: str, columns: Columns) -> Examples[RankingExample]:
    """The groups of a table with a query, a passage and a label in each row.

    A label above 0 means that the passage is relevant. A group stands where its first row does; one
    without a relevant passage can only be predicted.

    Args:
      source: see `tables.read_rows`.
      columns: `first` is the query, `second` the passage, `group` the query's id.

    Raises:
      DataError: a column is not there, a text is empty, a label is no number, or the rows of a
        group have different queries, or a part of them no label.
    """
    groups: dict[str, list[Row]] = {}
    table = read_rows(source, columns.header)
    for row in table:
        groups.setdefault(str(row[columns.group or columns.first]), []).append(row)
    examples: list[RankingExample] = []
    unusable = {}
    for name, rows in groups.items():
        query = text_of(rows[0], columns.first)
        passages, labels = [], []
        for row in rows:
            if text_of(row, columns.first) != query:
                raise DataError(
                    f"{row.place}: the query of {columns.group} {name!r} is not that of "
                    f"{rows[0].place}; give different queries different ids"
                )
            passages.append(text_of(row, columns.second))
            labels.append(_relevant(row, columns.label))
        known = [label for label in labels if label is not None]
        if known and len(known) < len(labels):
            raise DataError(
                f"{rows[labels.index(None)].place}: its {columns.label} is empty, while other rows "
                f"of {columns.group or columns.first} {name!r} have one; fill it in"
            )
        if known and not any(known):
            unusable[len(examples)] = (
                f"{rows[0].place}: none of the {len(rows)} passages of {columns.group or 'query'} "
                f"{name!r} is relevant"
            )
        relevant = tuple(known) if any(known) else None
        examples.append(RankingExample(rows[0].place, (query,), tuple(passages), relevant))
    unlabelled = ""
    if table and not unusable and all(example.relevant is None for example in examples):
        unlabelled = no_labels(source, table, columns.label)
    return Examples(examples, [], unusable=unusable, unlabelled=unlabelled)


def _relevant(row: Row, column: str) -> bool | None:
    value = row.values.get(column)
    if value is None or value == "":
        return None
    try:
        grade = float(value)
    except (TypeError, ValueError):
        grade = math.nan
    if not math.isfinite(grade):
        raise DataError(f"{row.place}: the label {value!r} is no number; write 0 or 1, or a grade")
    return grade > 0


def read_responses(source: str, others: int) -> tuple[list[RankingExample], list[str]]:
    """Each turn of each dialogue after its first, against turns of other dialogues.

    The file has a dialogue on each line, its turns parted or ended by `END_OF_TURN`; what follows a
    tab is not read. The others are drawn at random from all turns of all other dialogues of the
    file, no text twice and never the right one; the same file gives the same ones.

    Args:
      source: the file, with "[A:B]" behind it for some of its dialogues.
      others: how many there are against each right response.

    Returns:
      (an example for each response, its first candidate being the right one; a line for each
      dialogue that has only one turn).

    Raises:
      DataError: a turn is empty, or the file has too few turns to draw from.
    """
    path, chosen = split_source(source)
    lines = [(n, line) for n, line in enumerate(read_lines(path), 1) if line.strip()][chosen]
    dialogues, skipped = [], []
    for number, line in lines:
        place = f"{path}:{number}"
        turns = split_turns(line.split("\t")[0], place)
        if len(turns) < 2:
            skipped.append(f"{place}: the dialogue has one turn, so there is no response")
        else:
            dialogues.append((place, turns))
    if lines and not dialogues:
        raise DataError(f"{path}: no line has two turns; they are parted by {END_OF_TURN}")
    pool = [(dialogue, turn) for dialogue, (_, turns) in enumerate(dialogues) for turn in turns]
    responses = [(d, t) for d, (_, turns) in enumerate(dialogues) for t in range(1, len(turns))]
    if not responses:
        return [], skipped
    # A few more than are needed: some are of the same dialogue, or the same text twice.
    draws = np.arange(len(responses) * (others + _SPARE)).reshape(len(responses), -1)
    drawn = uniform_below(random_bits(derive_key(_SEED), draws), len(pool)).tolist()
    examples = []
    for (dialogue, turn), indices in zip(responses, drawn, strict=True):
        place, turns = dialogues[dialogue]
        candidates = (pool[index] for index in itertools.chain(indices, range(len(pool))))
        found: dict[str, None] = {turns[turn]: None}  # in the order in which they come
        while len(found) <= others and (candidate := next(candidates, None)):
            if candidate[0] != dialogue:
                found[candidate[1]] = None
        if len(found) <= others:
            raise DataError(
                f"{place}, turn {turn + 1}: only {len(found) - 1} other texts stand in other "
                f"dialogues, and {others} are needed; give more dialogues"
            )
        examples.append(
            RankingExample(
                f"{place}, turn {turn + 1}",
                tuple(turns[:turn]),
                tuple(found),
                (True,) + (False,) * others,
            )
        )
    return examples, skipped


def split_turns(text: str, place: str) -> list[str]:
    """The cleaned turns of a dialogue.

    Raises:
      DataError: one is empty.
    """
    turns = [clean_text(turn) for turn in text.split(END_OF_TURN)]
    if len(turns) > 1 and not turns[-1]:
        turns.pop()
    if "" in turns:
        raise DataError(f"{place}: turn {turns.index('') + 1} is empty; leave it out or fill it in")
    return turns


def typed_ranking(texts: Sequence[str]) -> RankingExample:
    """The example of a query, or a dialogue, and candidates that a person typed.

    Raises:
      DataError: one is empty, or there is no candidate.
    """
    if len(texts) < 2:
        raise DataError("a query needs texts that are to be ranked; type them behind it")
    candidates = tuple(clean_text(text) for text in texts[1:])
    if "" in candidates:
        raise DataError(f"text {candidates.index('') + 1} behind the query is empty")
    return RankingExample("typed", tuple(split_turns(texts[0], "typed")), candidates, None)


def check_ranked(examples: Sequence[RankingExample]) -> None:
    """Raises DataError where there is nothing to learn from."""
    for example in examples:
        if example.relevant is None:
            raise DataError(f"{example.place}: there is no label; training needs one in each row")
    if all(all(example.relevant or ()) for example in examples):
        raise DataError("all training rows are relevant; ranking needs others to compare with")


def ranking_features(
    examples: Sequence[RankingExample],
    tokenizer: Tokenizer,
    max_length: int,
    class_weights: Sequence[float],
    negatives: int | None,
    make_inputs: Callable[[Tokenizer, np.ndarray, np.ndarray, int], Inputs],
) -> Features:
    """One feature for each candidate: the query, its turns parted by [SEP], and the candidate.

    Args:
      examples: with or without labels.
      tokenizer: the model's.
      max_length: tokens, with [CLS] and [SEP].
      class_weights: weights in the loss of what is irrelevant and relevant.
      negatives: at most so many irrelevant candidates for each relevant one, the first ones; None
        for all.
      make_inputs: joins a query and a candidate and cuts them, `pair_inputs` or `context_inputs`.
    """
    unique: dict[str, int] = {}
    for example in examples:
        for text in (*example.query, *example.candidates):
            unique.setdefault(text, len(unique))
    ids = encode_all(tokenizer, list(unique))
    sep = np.array([tokenizer.special_ids["sep"]], np.int64)
    rows, cut = [], 0
    for number, example in enumerate(examples):
        turns = [ids[unique[text]] for text in example.query]
        query = np.concatenate([part for turn in turns for part in (sep, turn)][1:])
        relevant = example.relevant or (False,) * len(example.candidates)
        left = None if negatives is None else negatives * sum(relevant)
        shortened = False
        for text, label in zip(example.candidates, relevant, strict=True):
            if not label and left is not None:
                if left == 0:
                    continue
                left -= 1
            inputs = make_inputs(tokenizer, query, ids[unique[text]], max_length)
            shortened |= inputs.cut > 0
            weight = 0.0 if example.relevant is None else class_weights[label]
            values = {
                "labels": np.asarray(label, np.int32),
                "weights": np.asarray(weight, np.float32),
            }
            rows.append(Feature(inputs.tokens, values, number))
        cut += shortened
    return Features(rows, cut)
