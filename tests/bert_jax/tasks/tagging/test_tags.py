import random

import pytest

from bert_jax.tasks.tagging.tags import Span, find_scheme, spans_of_tags, tags_of_spans
from data_pipeline.errors import DataError

TYPES = ("PER", "LOC", "work-of-art")
PREFIXES = {
    "BIO": lambda size, before: ["B"] + ["I"] * (size - 1),
    "IOB1": lambda size, before: ["B" if before else "I"] + ["I"] * (size - 1),
    "BIOES": lambda size, before: ["S"] if size == 1 else ["B", *["I"] * (size - 2), "E"],
    "BILOU": lambda size, before: ["U"] if size == 1 else ["B", *["I"] * (size - 2), "L"],
    "BMES": lambda size, before: ["S"] if size == 1 else ["B", *["M"] * (size - 2), "E"],
}


def random_spans(generator):
    spans, at = [], generator.randint(0, 2)
    while at < 12:
        end = at + generator.randint(1, 4)
        spans.append(Span(generator.choice(TYPES), at, end))
        at = end + generator.choice([0, 0, 1, 2])
    return spans, at + generator.randint(0, 2)


def written(spans, count, scheme):
    tags, before = ["O"] * count, None
    for span in spans:
        follows = before is not None and before[0] == span.type and before[2] == span.first
        prefixes = PREFIXES[scheme](span.end - span.first, follows)
        tags[span.first : span.end] = [f"{prefix}-{span.type}" for prefix in prefixes]
        before = span
    return tags


@pytest.mark.parametrize("scheme", PREFIXES)
def test_spans_come_back_from_every_scheme(scheme):
    generator = random.Random(scheme)
    sentences = []
    for _ in range(300):
        spans, count = random_spans(generator)
        tags = written(spans, count, scheme)
        assert spans_of_tags(tags) == spans
        assert spans_of_tags(tags_of_spans(spans, count)) == spans
        assert tags_of_spans(spans, count) == written(spans, count, "BIO")
        sentences.append((1, tags))
    expected = scheme if scheme in ("BIO", "IOB1") else "BIOES"
    assert find_scheme("a file", sentences) == expected


def by_begin_and_end(tags):
    """As conlleval defines spans: by whether one ends before, and one begins at, each word."""
    tags = [*tags, "O"]
    spans, first, open_type = [], 0, ""
    before = "O"
    for number, tag in enumerate(tags):
        (prefix, _, name), (last, _, last_name) = tag.partition("-"), before.partition("-")
        ends = (
            last in ("E", "S")
            or (last in ("B", "I") and prefix in ("B", "S", "O"))
            or (last != "O" and last_name != name)
        )
        begins = (
            prefix in ("B", "S")
            or (prefix in ("I", "E") and last in ("E", "S", "O"))
            or (prefix != "O" and last_name != name)
        )
        if open_type and ends:
            spans.append(Span(open_type, first, number))
            open_type = ""
        if begins:
            first, open_type = number, name
        before = tag
    return spans


def test_invalid_tags_are_read_as_by_conlleval():
    generator = random.Random(0)
    every = ["O", *(f"{prefix}-{name}" for prefix in "BIES" for name in TYPES[:2])]
    for _ in range(5000):
        tags = generator.choices(every, k=generator.randint(0, 9))
        assert spans_of_tags(tags) == by_begin_and_end(tags)


GOOD_BIO = (1, ["B-PER", "I-PER", "O"])


@pytest.mark.parametrize(
    ("sentence", "message"),
    [
        (["O", "I-PER"], "f:12: 'I-PER' follows 'O', but a span begins with B-; .*are BIO"),
        (["I-PER"], "f:11: 'I-PER' follows 'O'.*are BIO"),
        (["B-PER", "I-LOC"], "f:12: 'I-LOC' follows 'B-PER'"),
    ],
)
def test_a_tag_that_breaks_bio_is_named(sentence, message):
    with pytest.raises(DataError, match=message):
        find_scheme("f", [GOOD_BIO, (5, ["B-LOC", "O"]), (11, sentence)])


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        ([(1, ["I-PER", "O", "I-LOC"]), (5, ["O", "B-PER"])], "f:6: 'B-PER' follows 'O'.*are IOB1"),
        ([(1, ["S-PER", "B-PER", "O"])], "f:3: 'O' follows 'B-PER'.*are BIOES"),
        ([(1, ["S-PER", "O", "B-PER"])], "f:3: 'B-PER' ends a sentence"),
        ([(1, ["S-PER", "E-PER"])], "f:2: 'E-PER' follows 'S-PER'"),
        ([(1, ["B-PER", "E-LOC"])], "f:2: 'E-LOC' follows 'B-PER'"),
        ([(1, ["B-PER", "B-PER", "E-PER"])], "f:2: 'B-PER' follows 'B-PER'"),
    ],
)
def test_a_tag_that_breaks_the_other_schemes_is_named(sentences, message):
    with pytest.raises(DataError, match=message):
        find_scheme("f", sentences)


def test_a_file_without_spans_is_bio():
    assert find_scheme("f", [(1, ["O", "O"])]) == "BIO"
