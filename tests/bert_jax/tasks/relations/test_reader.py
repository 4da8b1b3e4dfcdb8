import pytest

from bert_jax.tasks.relations.reader import marked_entities, read_relations
from data_pipeline.errors import DataError

FILE = """1\t"The <e1>child</e1> was wrapped into the <e2>cradle</e2>."
Other
Comment: with a\ttab

2\t"An <e2> elements </e2> of "an" <e1>array</e1>"
Component-Whole(e2,e1)
Comment:

3\tA <e1>b</e1> <e2>c</e2>
"""


def test_a_relation_may_be_called_comment(tmp_path):
    source = write(tmp_path, "1\tA <e1>b</e1> <e2>c</e2>\nComment-On(e1,e2)\nComment : none\n")
    assert [example.label for example in read_relations(source).rows] == ["Comment-On(e1,e2)"]


def write(tmp_path, text):
    path = tmp_path / "f.txt"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_format_of_semeval(tmp_path):
    source = write(tmp_path, FILE)
    rows = read_relations(source).rows
    assert [row.number for row in rows] == ["1", "2", "3"]
    assert [row.label for row in rows] == ["Other", "Component-Whole(e2,e1)", None]
    assert rows[1].first == 'An  elements  of "an" array'
    assert [[row.first[slice(*span)] for span in row.spans] for row in rows] == [
        ["child", "cradle"],
        ["array", "elements"],
        ["b", "c"],
    ]
    assert (rows[1].place, rows[1].label_place) == (f"{source}:5", f"{source}:6")
    assert read_relations(f"{source}[-2:]").rows == rows[-2:]


@pytest.mark.parametrize(
    ("marked", "message"),
    [
        ("a b", "f:3: the marks of the entities are missing; there must be <e1>"),
        ("<e1>a</e1> b", "marks of the entities are <e1> </e1>; there must be"),
        ("<e1>a</e1> <e1>b</e1> <e2>c</e2>", "<e1> </e1> <e1> </e1> <e2> </e2>; there must be"),
        ("<e1>a</e1> <e2> </e2>", "an entity is empty"),
        ("</e1>a<e1> <e2>b</e2>", "an entity is empty, or ends before"),
        ("<e1>a <e2>b</e1></e2>", "the two entities overlap"),
    ],
)
def test_mistakes_in_marks(marked, message):
    with pytest.raises(DataError, match=message):
        marked_entities(marked, "f:3")


def test_a_line_out_of_place_is_named(tmp_path):
    with pytest.raises(DataError, match=r"f.txt:3: 'Other' is neither"):
        read_relations(write(tmp_path, "1\t<e1>a</e1> <e2>b</e2>\nOther\nOther\n"))
    assert read_relations(write(tmp_path, "")).rows == []
