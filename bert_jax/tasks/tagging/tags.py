"""Tags of words and the spans that they mean: BIO internally, other schemes in files.

A tag is "O" or a prefix and a type, "B-PER". The schemes (Ramshaw and Marcus 1995, Tjong Kim Sang
and Veenstra 1999):

- BIO (also IOB2): B- begins a span, I- continues it.
- IOB1: I- is any word of a span; B- begins one directly after another of its type.
- BIOES (also IOBES, BILOU, BMES): as BIO, with E- for the last word and S- for the only one.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

from data_pipeline.errors import DataError

OUTSIDE = "O"
_Break = tuple[int, str]  # the line of a tag that does not follow a scheme, and what is wrong
_PREFIXES = {"B": "B", "I": "I", "E": "E", "S": "S", "M": "I", "L": "E", "U": "S"}


class Span(NamedTuple):
    """The words `first` to `end` (exclusive), which are of one type."""

    type: str
    first: int
    end: int


@functools.cache
def split_tag(tag: str) -> tuple[str, str] | None:
    """(one of O, B, I, E and S, the type) of a tag; None for anything else.

    >>> split_tag("M-work-of-art"), split_tag("O"), split_tag("NNP")
    (('I', 'work-of-art'), ('O', ''), None)
    """
    if tag == OUTSIDE:
        return OUTSIDE, ""
    prefix, _, name = tag.partition("-")
    return (_PREFIXES[prefix], name) if prefix in _PREFIXES and name else None


def spans_of_tags(tags: Sequence[str]) -> list[Span]:
    """The spans of any tags, valid in a scheme or not, as CoNLL's scorer `conlleval` reads them.

    A span continues with I- or E- of its type, unless E- or S- has ended it; anything else but O
    begins a new one.

    >>> spans_of_tags(["I-PER", "I-PER", "B-PER", "O", "I-LOC", "I-PER"])
    ... # doctest: +NORMALIZE_WHITESPACE
    [Span(type='PER', first=0, end=2), Span(type='PER', first=2, end=3),
     Span(type='LOC', first=4, end=5), Span(type='PER', first=5, end=6)]
    """
    spans: list[Span] = []
    before = (OUTSIDE, "")
    for number, tag in enumerate(tags):
        prefix, name = _split(tag)
        if prefix in "IE" and before[0] in "BI" and before[1] == name:
            spans[-1] = spans[-1]._replace(end=number + 1)
        elif prefix != OUTSIDE:
            spans.append(Span(name, number, number + 1))
        before = (prefix, name)
    return spans


def tags_of_spans(spans: Sequence[Span], count: int) -> list[str]:
    """The BIO tags of `count` words.

    >>> tags_of_spans([Span("PER", 1, 3)], 4)
    ['O', 'B-PER', 'I-PER', 'O']
    """
    tags = [OUTSIDE] * count
    for name, first, end in spans:
        tags[first:end] = [f"B-{name}", *[f"I-{name}"] * (end - first - 1)]
    return tags


def find_scheme(source: str, sentences: Sequence[tuple[int, Sequence[str]]]) -> str:
    """The scheme that the tags of a whole file follow: "BIO", "IOB1" or "BIOES".

    E- and S- occur in BIOES only. Without them it is whichever of BIO and IOB1 no tag violates, BIO
    if both fit. `sentences` has the line of the first word, and the tags, of each sentence.
    """
    if any(_split(tag)[0] in "ES" for _, tags in sentences for tag in tags):
        breaks = {"BIOES": _breaks_of_bioes(sentences)}
    else:
        inside = "I- unless one of its type ends just before it"
        breaks = {"BIO": _breaks(sentences, "I", "B-"), "IOB1": _breaks(sentences, "B", inside)}
    nearest = min(breaks, key=lambda scheme: len(breaks[scheme]))
    if breaks[nearest]:
        line, problem = breaks[nearest][0]
        raise DataError(f"{source}:{line}: {problem}; the file's other tags are {nearest}")
    return nearest


def _split(tag: str) -> tuple[str, str]:
    found = split_tag(tag)
    assert found is not None, tag
    return found


def _breaks(
    sentences: Sequence[tuple[int, Sequence[str]]], prefix: str, beginning: str
) -> list[_Break]:
    """Every tag with this prefix that follows another type: I- or B- without reason."""
    return [
        (line + number, f"{tag!r} follows {before!r}, but a span begins with {beginning}")
        for line, tags in sentences
        for number, (before, tag) in enumerate(zip([OUTSIDE, *tags], tags, strict=False))
        if _split(tag)[0] == prefix and _split(before)[1] != _split(tag)[1]
    ]


def _breaks_of_bioes(sentences: Sequence[tuple[int, Sequence[str]]]) -> list[_Break]:
    """Every step from one tag to the next that leaves a span open, or continues none."""
    breaks = []
    for line, tags in sentences:
        steps = zip([OUTSIDE, *tags], [*tags, OUTSIDE], strict=True)
        for number, (before, tag) in enumerate(steps):
            (prefix, name), (prefix_before, name_before) = _split(tag), _split(before)
            is_open, goes_on = prefix_before in "BI", prefix in "IE"
            if is_open != goes_on or (is_open and name != name_before):
                end = number == len(tags)
                problem = f"{before!r} ends a sentence" if end else f"{tag!r} follows {before!r}"
                rule = "but B- begins a span, E- ends it, and S- is one of a single word"
                breaks.append((line + number - end, f"{problem}, {rule}"))
    return breaks
