import json
import random

import pytest

from bert_jax.tasks.registry import find_task
from bert_jax.tasks.tagging.reader import (
    Entity,
    apart,
    read_tagged_texts,
    tags_at,
    words_of,
)
from data_pipeline.errors import DataError

CONLL = """-DOCSTART- -X- O O

EU NNP I-NP I-ORG
rejects VBZ I-VP O
German JJ I-NP I-MISC

-DOCSTART- -X- O O

Peter NNP I-NP I-PER
Blackburn NNP I-NP I-PER
Oslo NNP I-NP B-PER
"""


def write(tmp_path, text, name="f.txt"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def entities(row):
    return [(entity.type, row.text[entity.start : entity.end]) for entity in row.entities]


def test_conll_2003(tmp_path):
    source = write(tmp_path, CONLL)
    rows, _, note, *_ = read_tagged_texts(source, "word")
    assert note == "tags in IOB1"
    assert [row.text for row in rows] == ["EU rejects German", "Peter Blackburn Oslo"]
    assert [row.place for row in rows] == [f"{source}:3", f"{source}:9"]
    assert entities(rows[0]) == [("ORG", "EU"), ("MISC", "German")]
    assert entities(rows[1]) == [("PER", "Peter Blackburn"), ("PER", "Oslo")]
    assert rows[0].words == ((0, 2), (3, 10), (11, 17))
    assert rows[1].entities[1].place == f"{source}:11"
    types = [f"{prefix}-{name}" for name in ("MISC", "ORG", "PER") for prefix in "BI"]
    assert find_task("tag").labels_of(rows) == ("O", *types)


def test_one_character_a_line(tmp_path):
    source = write(tmp_path, "曹 B-PER\r\n翠 I-PER\r\n说 O\r\n\r\n\u3000 O\n好 O\n")
    rows, _, note, *_ = read_tagged_texts(source, "character")
    assert note == "tags in BIO"
    assert [row.text for row in rows] == ["曹翠说", "\u3000好"]
    assert entities(rows[0]) == [("PER", "曹翠")]


def test_tabs_part_columns_where_there_are_any(tmp_path):
    rows, *_ = read_tagged_texts(write(tmp_path, "New York\tS-LOC \n, too\tO\n"), "word")
    assert entities(rows[0]) == [("LOC", "New York")]


def test_words_alone_are_to_be_tagged(tmp_path):
    rows, _, note, *_ = read_tagged_texts(write(tmp_path, "a\nb\n\nc"), "word")
    assert note == "no tags"
    assert [(row.text, row.entities) for row in rows] == [("a b", None), ("c", None)]
    with pytest.raises(DataError, match=r"f.txt:1: there is no tag; training needs"):
        find_task("tag").labels_of(rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("EU N O\nsays O\n", r"f.txt:2 has 2 columns, not the 3 of line 1"),
        ("EU O\nsays\n", r"f.txt:2 has 1 column, not the 2 of line 1"),
        ("EU\tO\n \tO\n", r"f.txt:2 has no word in its first column"),
        ("EU NNP\n", r"f.txt:1: 'NNP' in the last column is not a tag; a tag is O, or B-"),
        ("EU B-\n", r"f.txt:1: 'B-' in the last column is not a tag"),
        ("EU B-ORG\nso O\nBonn I-LOC\n", r"f.txt:3: 'I-LOC' follows 'O'"),
    ],
)
def test_mistakes_in_columns(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_tagged_texts(write(tmp_path, text), "word")


@pytest.mark.parametrize("text", ["", "\n\n", "-DOCSTART- -X- O O\n\n"])
def test_an_empty_file_has_no_rows(tmp_path, text):
    assert read_tagged_texts(write(tmp_path, text), "word").rows == []


def spans_file(tmp_path, *records):
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    return write(tmp_path, "".join(lines), "f.json")


def test_spans_have_inclusive_ends(tmp_path):
    label = {"game": {"魔兽3": [[6, 8]]}, "name": {"只要": [[0, 1]]}}
    source = spans_file(
        tmp_path, {"text": "只要还有属于魔兽3玩家", "label": label}, {"text": "一", "id": 0}
    )
    rows, _, note, *_ = read_tagged_texts(source, "piece")
    assert note == ""
    assert rows[0].entities == (
        Entity("name", 0, 2, f"{source}:1"),
        Entity("game", 6, 9, f"{source}:1"),
    )
    assert rows[0].words is None
    assert rows[1].entities is None


def test_spans_that_tags_cannot_say_are_counted(tmp_path):
    label = {"book": {"《招商银行》": [[0, 5]]}, "company": {"招商银行": [[1, 4]]}}
    source = spans_file(tmp_path, {"text": "《招商银行》", "label": label})
    rows, _, note, *_ = read_tagged_texts(source, "piece")
    assert note == "entities that overlap longer ones, so tags cannot express them: 1"
    assert len(rows[0].entities) == 2
    assert tags_at(range(6), rows[0].entities) == ["B-book"] + ["I-book"] * 5


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"text": "一二", "label": {"a": {"一": [[1, 1]]}}},
            "a '一' is not the text at .*1 to 1",
        ),
        ({"text": "一二", "label": {"a": {"二": [[1, 2]]}}}, "characters 1 to 2: '二'"),
        ({"text": "一二", "label": {"a": {"": [[1, 0]]}}}, "characters 1 to 0"),
        ({"text": "一二", "label": {"a": [[1, 0]]}}, "its label must give"),
        ({"text": "一二", "label": {"a": {"一": [0, 0]}}}, "its label must give"),
        ({"text": "一二", "label": "a"}, "its label must give"),
        ({"text": " ", "label": {}}, "its text is empty"),
        ({"text": None, "label": {}}, "its text must hold text, not null"),
        ({"text": ["一"], "label": {}}, "its text must hold text, not "),
        ({"text": "一", "label": {"": {"一": [[0, 0]]}}}, "an entity type without a name"),
        ({"txt": "一"}, "there is no column 'text'; there are: txt"),
    ],
)
def test_mistakes_in_spans(tmp_path, record, message):
    source = spans_file(tmp_path, {"text": "好", "label": {}}, record)
    with pytest.raises(DataError, match=rf"f.json:2: .*{message}"):
        read_tagged_texts(source, "piece")


def test_spans_that_are_not_known(tmp_path):
    source = spans_file(
        tmp_path, {"text": "一", "label": None}, {"text": "二"}, {"text": "三", "label": {}}
    )
    assert [row.entities for row in read_tagged_texts(source, "piece").rows] == [None, None, ()]


def test_training_needs_an_entity(tmp_path):
    rows, *_ = read_tagged_texts(write(tmp_path, "a O\n"), "word")
    with pytest.raises(DataError, match="all training words have the tag 'O'"):
        find_task("tag").labels_of(rows)


def test_words_of_a_raw_text():
    text = "Müller's 2nd\u00a0visit:  北京2008。"

    def found(unit):
        return [text[start:end] for start, end in words_of(text, unit)]

    assert found("word") == ["Müller", "'", "s", "2nd", "visit", ":", "北", "京", "2008", "。"]
    assert found("character") == [c for c in text if not c.isspace()]
    assert words_of(text, "piece") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [("\x85ab", ["ab"]), ("a \x1fb", ["a", "b"]), ("a\x1cb c", ["a\x1cb", "c"]), ("\x0c", [])],
)
def test_control_characters_that_python_calls_white_space_end_no_word(text, words):
    assert [text[start:end] for start, end in words_of(text, "word")] == words


@pytest.mark.parametrize("bounds", [":1", "1:", "-1:", ":"])
def test_some_of_the_texts(tmp_path, bounds):
    start, end = (int(bound) if bound else None for bound in bounds.split(":"))
    sources = {
        write(tmp_path, CONLL): "word",
        spans_file(tmp_path, {"text": "一", "label": {}}, {"text": "二"}): "piece",
    }
    for source, unit in sources.items():
        rows = read_tagged_texts(source, unit).rows
        assert len(rows) == 2
        assert read_tagged_texts(f"{source}[{bounds}]", unit).rows == rows[start:end]


def test_tags_by_where_units_begin():
    generator = random.Random(0)
    for _ in range(500):
        starts = sorted(generator.sample(range(30), 8))
        spans = [(generator.randrange(30), generator.randint(1, 9)) for _ in range(3)]
        entities = [
            Entity(name, start, start + size, "")
            for name, (start, size) in zip("abc", spans, strict=True)
        ]
        kept = apart(entities)
        for entity in entities:  # what is left out overlaps one that is kept and no shorter
            overlaps = [
                other
                for other in kept
                if other.start < entity.end and entity.start < other.end and other != entity
            ]
            assert (entity in kept) == (not overlaps)
            if entity not in kept:
                size = entity.end - entity.start
                assert any(other.end - other.start >= size for other in overlaps)
        expected, before = [], None
        for start in starts:
            inside = [entity for entity in kept if entity.start <= start < entity.end]
            here = inside[0] if inside else None
            prefix = "I" if here == before else "B"
            expected.append(f"{prefix}-{here.type}" if here else "O")
            before = here
        assert tags_at(starts, entities) == expected
