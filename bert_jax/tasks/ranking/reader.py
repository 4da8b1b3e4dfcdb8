"""Examples of texts to rank: passages for a query, responses in a dialogue."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from bert_jax.tasks.columns import Columns, no_labels, number_of, text_of
from data_pipeline.errors import DataError
from data_pipeline.finetune.examples import Examples
from data_pipeline.finetune.tables import Row, filled, read_lines, read_rows, split_source
from data_pipeline.keyed_random import derive_key, random_bits, uniform_below
from data_pipeline.text.clean import clean_text

END_OF_TURN = "__eou__"
_SEED = 0  # for the responses of other dialogues: always the same for a file
_SPARE = 16  # draws


@dataclasses.dataclass(frozen=True)
class RankingExample:
    """A query and at least one candidate to rank.

    Attributes:
      place: where it is, for messages and predictions.
      query: the turns of a dialogue, or a single text.
      relevant: which of the candidates answer it; None where that is not known.
    """

    place: str
    query: tuple[str, ...]
    candidates: tuple[str, ...]
    relevant: tuple[bool, ...] | None


def read_passages(source: str, columns: Columns) -> Examples[RankingExample]:
    """The groups of a table (see `tables.read_rows`), each row a query, a passage and a label.

    A label above 0 means that the passage is relevant. Groups are in the order of their first rows;
    one without a relevant passage can only be predicted.
    """
    group = columns.group or columns.first
    groups: dict[str, list[Row]] = {}
    table = read_rows(source, columns.header)
    for row in table:
        groups.setdefault(str(row[group]), []).append(row)
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
                f"of {group} {name!r} have one; fill it in"
            )
        if known and not any(known):
            unusable[len(examples)] = (
                f"{rows[0].place}: none of the {len(rows)} passages of {columns.group or 'query'} "
                f"{name!r} is relevant"
            )
        relevant = tuple(known) if any(known) else None
        examples.append(RankingExample(rows[0].place, (query,), tuple(passages), relevant))
    truths = [*(example.relevant for example in examples), *unusable.values()]
    unlabelled = no_labels(source, table, columns.label, truths)
    return Examples(examples, [], unusable=unusable, unlabelled=unlabelled)


def _relevant(row: Row, column: str) -> bool | None:
    value = row.values.get(column)
    if value is None or value == "":
        return None
    return number_of(value, row.place, "; write 0 or 1, or a grade") > 0


def read_responses(source: str, others: int) -> Examples[RankingExample]:
    """Each turn after the first of each dialogue, against `others` turns of other dialogues.

    The file has a dialogue on each line, `END_OF_TURN` between or after its turns; what follows a
    tab is ignored, and so is a dialogue of one turn. "FILE[A:B]" takes some of the dialogues. The
    right turn is the first candidate. The others are drawn at random from all turns of all other
    dialogues of the file, no text twice and never the right one; the same file gives the same ones.
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
        raise DataError(f"{path}: no line has two turns, with {END_OF_TURN} between them")
    pool = [(dialogue, turn) for dialogue, (_, turns) in enumerate(dialogues) for turn in turns]
    responses = [(d, t) for d, (_, turns) in enumerate(dialogues) for t in range(1, len(turns))]
    if not responses:
        return Examples([], skipped)
    # A few more than needed: some are from the same dialogue, or repeat a text.
    draws = np.arange(len(responses) * (others + _SPARE)).reshape(len(responses), -1)
    drawn = uniform_below(random_bits(derive_key(_SEED), draws), len(pool)).tolist()
    examples = []
    for (dialogue, turn), indices in zip(responses, drawn, strict=True):
        place, turns = dialogues[dialogue]
        candidates = (pool[index] for index in itertools.chain(indices, range(len(pool))))
        found: dict[str, None] = {turns[turn]: None}  # an ordered set
        while len(found) <= others and (candidate := next(candidates, None)):
            if candidate[0] != dialogue:
                found[candidate[1]] = None
        if len(found) <= others:
            raise DataError(
                f"{place}, turn {turn + 1}: only {len(found) - 1} other texts occur in other "
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
    return Examples(examples, skipped)


def split_turns(text: str, place: str) -> list[str]:
    """The cleaned turns of a dialogue."""
    turns = [clean_text(turn) for turn in text.split(END_OF_TURN)]
    if len(turns) > 1 and not turns[-1]:
        turns.pop()
    return [filled(turn, place, f"turn {number}") for number, turn in enumerate(turns, 1)]


def typed_ranking(texts: Sequence[str]) -> RankingExample:
    """The example of a query, or a dialogue, and candidates typed by a user."""
    query, *others = texts
    if not others:
        raise DataError("a query needs texts to rank; type them after it")
    candidates = tuple(
        filled(clean_text(text), "typed", f"text {number} after the query")
        for number, text in enumerate(others, 1)
    )
    return RankingExample("typed", tuple(split_turns(query, "typed")), candidates, None)
