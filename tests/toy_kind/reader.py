"""Lines in which one word is marked: `the *cat* walked`; without a mark, to be predicted."""

import dataclasses

from data_pipeline.errors import DataError
from data_pipeline.finetune.examples import Examples
from data_pipeline.finetune.tables import read_lines


@dataclasses.dataclass(frozen=True)
class SpotExample:
    place: str
    words: tuple[str, ...]
    marked: int | None


def read_marked(source):
    lines = enumerate(read_lines(source), 1)
    return Examples([marked_line(line, f"{source}:{number}") for number, line in lines], [])


def marked_line(line, place):
    words = line.split()
    marked = [number for number, word in enumerate(words) if word.startswith("*")]
    if not words or len(marked) > 1:
        raise DataError(f"{place}: {len(marked)} of {len(words)} words are marked; mark one")
    return SpotExample(place, tuple(word.strip("*") for word in words), *(marked or [None]))
