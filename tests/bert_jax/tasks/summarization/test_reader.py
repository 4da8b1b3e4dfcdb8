"""Sentences of articles and their places, the alignment of summaries, windows, bad input."""

import json

import numpy as np
import pytest

from bert_jax.tasks.columns import Columns
from bert_jax.tasks.registry import find_task
from bert_jax.tasks.summarization.reader import (
    Sentence,
    chosen_sentences,
    read_articles,
    split_article,
    typed_article,
)
from data_pipeline.errors import DataError

COLUMNS = Columns("article", label="summary")
ARTICLE = 'A heading\n\nThe cat sat.  It slept (a lot.) Then\tit ran!\r\nHe said: "No." She left.'


def table(folder, rows):
    path = folder / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_sentences_know_their_places():
    sentences = split_article(ARTICLE, "en")
    assert [sentence.text for sentence in sentences][:3] == [
        "A heading",
        "The cat sat.",
        "It slept (a lot.)",
    ]
    for sentence in sentences:
        assert ARTICLE[sentence.start : sentence.end] == sentence.text
    text = "你好。你好。再见！"
    assert split_article(text, "zh") == [
        Sentence("你好。", 0, 3),
        Sentence("你好。", 3, 6),
        Sentence("再见！", 6, 9),
    ]


@pytest.mark.parametrize("space", ["\xa0", "\u2028", "\u3000", "\x85", "\x1c", "\t"])
def test_unusual_white_space_splits_like_a_space(space):
    """The library that splits ends with a panic on some of these."""
    texts = [s.text for s in split_article(f"x I{space}.{space}He sat.\nIt{space}ran.", "en")]
    plain = [s.text for s in split_article("x I . He sat.\nIt ran.", "en")]
    assert [text.replace(space, " ") for text in texts] == plain
    assert f"It{space}ran." in texts


@pytest.mark.parametrize("language", ["en", "zh", "lines"])
def test_any_text_is_split_without_loss(language):
    random = np.random.default_rng(0)
    parts = [*"ab.!?\"'()[] \t\n\r。！…”1", "Mr. ", "fig. ", "\u200b", "\xa0", "No. 5", "x) "]
    for _ in range(300):
        text = "".join(random.choice(parts, 40))
        sentences = split_article(text, language)
        assert all(text[s.start : s.end] == s.text for s in sentences)
        ends = [0, *(s.end for s in sentences)]
        between = [text[a : s.start] for a, s in zip(ends, sentences, strict=False)]
        between.append(text[ends[-1] :])
        assert not "".join(between).replace("\u200b", "").strip()


def brute_force(sentences, summary):
    """Which sentences a summary has: every run tried, each character by itself."""
    article = "".join("".join(s.split()) for s in sentences)
    wanted = "".join(summary.split())
    covered, place = [False] * len(article), 0
    while place < len(wanted):
        runs = [
            (size, start)
            for start in range(len(article))
            for size in range(1, len(wanted) - place + 1)
            if article[start : start + size] == wanted[place : place + size]
        ]
        size, start = max(runs, key=lambda run: (run[0], -run[1]), default=(0, 0))
        if size >= 8:
            covered[start : start + size] = [True] * size
            place += size
        else:
            place += 1
    chosen, begin = [], 0
    for s in sentences:
        part = covered[begin : begin + len("".join(s.split()))]
        chosen.append(sum(part) >= len(part) / 2)
        begin += len(part)
    return tuple(chosen)


def test_alignment_equals_brute_force():
    random = np.random.default_rng(1)
    for _ in range(30):
        sentences = ["".join(random.choice(list("ab "), 12)) + "." for _ in range(5)]
        picked = [s for s in sentences if random.random() < 0.4] or sentences[:1]
        summary = "".join(picked) + random.choice(["", "zzz", "ab"])
        assert chosen_sentences(sentences, summary)[0] == brute_force(sentences, summary)


def test_summaries_are_aligned_whatever_their_spaces_and_borders():
    sentences = [
        "The first one is here.",
        '"Second," he said: "I go.',
        'I come." And the last one.',
    ]
    assert chosen_sentences(sentences, sentences[2] + sentences[0]) == ((True, False, True), [])
    # Split elsewhere: the text in quotation marks is a sentence of its own.
    assert chosen_sentences(sentences, '"Second," he said: "I go. I come."')[0] == (
        False,
        True,
        False,
    )
    chosen, missing = chosen_sentences(sentences, "Of something else." + sentences[0])
    assert chosen == (True, False, False)
    assert missing == ["Ofsomethingelse."]


def test_reading_counts_what_is_not_in_the_article(tmp_path):
    source = table(
        tmp_path,
        [
            {"article": ARTICLE, "summary": "It slept (a lot.)"},
            {"article": ARTICLE, "summary": ["The cat sat.", "Quite invented it is."]},
            {"article": ARTICLE, "summary": "Zebras walked by, you know."},
            {"article": ARTICLE},
            {"article": ARTICLE, "summary": ""},
        ],
    )
    found = read_articles(source, COLUMNS, "en")
    assert [example.place[-2:] for example in found.rows] == [":1", ":2", ":3", ":4", ":5"]
    first, second, third, *others = found.rows
    assert first.chosen[:3] == (False, False, True)
    assert second.chosen[:3] == (False, True, False)
    assert (third.chosen, third.summary) == (None, "Zebras walked by, you know.")
    assert [(example.chosen, example.summary) for example in others] == [(None, None)] * 2
    assert found.note == (
        "parts of summaries that are not in their articles: 1, such as "
        f"{source}:2, 'Quiteinventeditis.'"
    )
    assert found.usable().skipped == [f"{source}:3: its summary has no sentence of the article"]
    assert not found.unlabelled
    with pytest.raises(DataError, match=r"d.jsonl:4: there is no summary"):
        find_task("summarize").labels_of(found.usable().rows)


def test_an_article_may_be_a_list_of_sentences(tmp_path):
    row = {"article": ["Cats sit.", "Dogs run."], "summary": ["Dogs run."]}
    (example,) = read_articles(table(tmp_path, [row]), COLUMNS, "en").rows
    assert [sentence.text for sentence in example.sentences] == row["article"]
    assert example.chosen == (False, True)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"article": " \n", "summary": "a"}, r"d.jsonl:1: its article is empty"),
        ({"article": [], "summary": "a"}, r"d.jsonl:1: its article is empty"),
        ({"article": {"a": 1}, "summary": "a"}, r"d.jsonl:1: its article must hold text, not {"),
        ({"article": "a", "summary": {"a": 1}}, r"d.jsonl:1: its summary must hold text, not {"),
        ({"text": "a", "summary": "a"}, "no column 'article'; there are: text, summary"),
    ],
)
def test_mistakes_are_placed(tmp_path, row, message):
    with pytest.raises(DataError, match=message):
        read_articles(table(tmp_path, [row]), COLUMNS, "en")


def test_typed_article():
    assert [s.text for s in typed_article("One. Two.", "en").sentences] == ["One.", "Two."]
    with pytest.raises(DataError, match="empty"):
        typed_article(" ", "en")
