"""The rules of the original in slow, plain Python, step by step: what the fast code must match.

After create_pretraining_data.py of google-research/bert and the paper's appendix A.1, with the dice
in the same places.
"""

from itertools import chain
from random import Random
from typing import NamedTuple


class Pair(NamedTuple):
    """One example before special tokens."""

    a: list[int]
    b: list[int]
    label: bool


def pairs_of_document(
    documents: list[list[list[int]]], number: int, budget: int, short_rate: float, random: Random
) -> list[Pair]:
    """All pairs of one pass over a document; `budget` is the sequence length less three."""
    document = documents[number]
    target = random.randint(2, budget) if random.random() < short_rate else budget
    pairs = []
    position = 0
    while position < len(document):
        chunk = []
        while position + len(chunk) < len(document):
            chunk.append(document[position + len(chunk)])
            if sum(map(len, chunk)) >= target:
                break
        a_size = random.randint(1, len(chunk) - 1) if len(chunk) > 1 else 1
        a = list(chain.from_iterable(chunk[:a_size]))
        is_random = len(chunk) == 1 or random.random() < 0.5
        if is_random:
            other = number
            while other == number:
                other = random.randrange(len(documents))
            start = random.randrange(len(documents[other]))
            b: list[int] = []
            for sentence in documents[other][start:]:
                b += sentence
                if len(b) >= target - len(a):
                    break
            position += a_size
        else:
            b = list(chain.from_iterable(chunk[a_size:]))
            position += len(chunk)
        pairs.append(Pair(*truncate(a, b, budget, random), is_random))
    return pairs


def ordered_pairs_of_document(
    documents: list[list[list[int]]], number: int, budget: int, short_rate: float, random: Random
) -> list[Pair]:
    """The same for sentence order, after section 3.1 of ALBERT and its create_pretraining_data."""
    document = documents[number]
    target = random.randint(2, budget) if random.random() < short_rate else budget
    pairs = []
    chunk: list[list[int]] = []
    for index, sentence in enumerate(document):
        chunk.append(sentence)
        if sum(map(len, chunk)) < target and index + 1 < len(document):
            continue
        label = True
        if len(chunk) == 1:
            a, b = chunk[0], []
            other = number
            while other == number:
                other = random.randrange(len(documents))
            start = random.randrange(len(documents[other]))
            for following in documents[other][start:]:
                b = b + following
                if len(b) >= target - len(a):
                    break
        else:
            a_size = random.randint(1, len(chunk) - 1)
            a, b = list(chain(*chunk[:a_size])), list(chain(*chunk[a_size:]))
            label = random.random() < 0.5
            if label:
                a, b = b, a
        pairs.append(Pair(*truncate(a, b, budget, random), label))
        chunk = []
    return pairs


def full_sentences(
    documents: list[list[list[int]]], target: int, separator: int
) -> list[list[int]]:
    """Examples of a run of documents without [CLS] and the last [SEP].

    After FULL-SENTENCES in section 4.2 of RoBERTa. A sentence beyond the target is cut.
    """
    examples: list[list[int]] = []
    for document in documents:
        gap = [separator]
        for sentence in document:
            for start in range(0, len(sentence), target):
                piece = sentence[start : start + target]
                if examples and len(examples[-1] + gap + piece) <= target:
                    examples[-1] += gap + piece
                else:
                    examples.append(list(piece))
                gap = []
    return examples


def best_fit_decreasing(
    tokens: list[int], predictions: list[int], row_tokens: int, row_predictions: int
) -> list[list[int]]:
    """Rows of the numbers of sequences: the longest first, each into the fullest row it fits in."""
    rows: list[list[int]] = []

    def room(row: list[int]) -> tuple[int, int]:
        return (
            row_tokens - sum(tokens[number] for number in row),
            row_predictions - sum(predictions[number] for number in row),
        )

    for number in sorted(range(len(tokens)), key=lambda number: -tokens[number]):
        fitting = [
            row
            for row in rows
            if room(row)[0] >= tokens[number] and room(row)[1] >= predictions[number]
        ]
        if not fitting:
            rows.append([])
            fitting = rows[-1:]
        min(fitting, key=room).append(number)
    return rows


def truncate(
    a: list[int], b: list[int], budget: int, random: Random
) -> tuple[list[int], list[int]]:
    """Drops tokens one at a time from the longer side, B on ties, at a random end of it."""
    a, b = list(a), list(b)
    while len(a) + len(b) > budget:
        longer = a if len(a) > len(b) else b
        longer.pop(0 if random.random() < 0.5 else -1)
    return a, b


def words(eligible: list[bool], starts_word: list[bool]) -> list[list[int]]:
    """Positions of every word: a piece and its continuations, up to a special token."""
    found: list[list[int]] = []
    for position, (can, starts) in enumerate(zip(eligible, starts_word, strict=True)):
        if can and not starts and position and eligible[position - 1]:
            found[-1].append(position)
        elif can:
            found.append([position])
    return found


def mask(
    tokens: list[int],
    units: list[list[int]],
    *,
    slots: int,
    probability: float,
    mask_rate: float,
    keep_rate: float,
    mask_id: int,
    vocab_size: int,
    random: Random,
) -> tuple[list[int], list[int]]:
    """Masked tokens and the chosen positions; `units` are the words (or tokens) to choose from."""
    wanted = min(slots, max(1, round(len(tokens) * probability)))
    shown = list(tokens)
    chosen: list[int] = []
    for unit in random.sample(units, len(units)):
        if len(chosen) >= wanted:
            break
        if len(chosen) + len(unit) > wanted:
            continue
        for position in unit:
            if random.random() < mask_rate:
                shown[position] = mask_id
            elif random.random() >= keep_rate / (1 - mask_rate):
                shown[position] = random.randrange(vocab_size)
            chosen.append(position)
    return shown, sorted(chosen)


def mask_spans(
    tokens: list[int],
    words: list[list[int]],
    *,
    slots: int,
    probability: float,
    mask_rate: float,
    keep_rate: float,
    mask_id: int,
    vocab_size: int,
    random: Random,
) -> tuple[list[int], list[int]]:
    """The same for spans of words, after section 3.1 of SpanBERT."""
    wanted = min(slots, max(1, round(len(tokens) * probability)))
    shown = list(tokens)
    chosen: list[int] = []
    for start in random.sample(range(len(words)), len(words)):
        size = 11
        while size > 10:
            size = 1
            while random.random() >= 0.2:
                size += 1
        span: list[int] = []
        for word in words[start : start + size]:
            is_apart = span and word[0] != span[-1] + 1
            if word[0] in chosen or is_apart or len(chosen + span + word) > wanted:
                break
            span += word
        dice = random.random()
        for position in span:
            if dice < mask_rate:
                shown[position] = mask_id
            elif dice >= mask_rate + keep_rate:
                shown[position] = random.randrange(vocab_size)
        chosen += span
    return shown, sorted(chosen)
