import pytest

from data_pipeline.errors import DataError
from data_pipeline.text.sentences import splitter


@pytest.mark.parametrize(
    "sentences",
    [
        ["Mr. J. R. R. Tolkien wrote it.", "He lived in Oxford."],
        ["Dr. Smith agreed, e.g. in the U.S. Army.", "It cost $3.50."],
        ["It rose by 2.5 percent.", "That was a lot."],
        ['"Really?" she asked.', "He left."],
        ["“Really?” she asked.", "He left."],
        ['He said: "Go away."', "Then he went."],
        ["Wait... what?", "I see."],
        ["He stopped… and then he went on.", "So did I."],
        ["He left (for good).", "(She stayed.)", "Nobody knew (or cared.)", "That was it."],
        ["See p. 5, vol. 3, ch. 2.", "The end."],
        ["1. Open the door.", "2. Close the door."],
        ["What?!", "No way!"],
    ],
)
def test_english(sentences):
    assert splitter("en")(" ".join(sentences)) == sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["他说：“你好！”", "然后走了。"],
        ["他去了哪里？", "不知道；", "也许回家了。"],
        ["「真的嗎？」", "她問。"],
        ["他说：『是。』", "走了。"],
        ["（他走了。）", "没有人说话"],
        ["圆周率是3.14，A.B公司知道……真的。", "好吗?", "好!"],
        ["“也许吧；”", "她说。"],
    ],
)
def test_chinese(sentences):
    assert splitter("zh")("".join(sentences)) == sentences


def test_nothing_is_lost():
    english = 'A b! c? "D." e.g. F. (G.) ... h... I; J? k! No. 5. vol. 3. [1.] ! ? Z'
    assert "".join(splitter("en")(english)).replace(" ", "") == english.replace(" ", "")
    chinese = "”。。！？；”’甲 乙！！」丙.丁?!\"'；；戊"
    assert "".join(splitter("zh")(chinese)).replace(" ", "") == chinese.replace(" ", "")


@pytest.mark.parametrize("language", ["en", "zh", "lines"])
def test_no_sentence_is_empty(language):
    assert splitter(language)("") == []
    assert all(splitter(language)(text) != [""] for text in (". ", "。", "?", "a"))


def test_lines_are_kept():
    assert splitter("lines")("Eins. Zwei. Drei.") == ["Eins. Zwei. Drei."]


def test_other_languages_are_refused_with_the_known_ones():
    with pytest.raises(DataError, match=r"'fr'.*en, zh, lines"):
        splitter("fr")
