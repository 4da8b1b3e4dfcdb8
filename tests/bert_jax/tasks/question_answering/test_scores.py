"""Scores of answers: rules on cases made by hand, recorded official figures on real ones."""

import itertools
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from bert_jax.tasks.question_answering.scores import (
    best_threshold,
    cmrc_scores,
    normalize_answer,
    squad2_f1,
    squad2_scores,
    squad_scores,
)

SHARED = os.environ.get("BERT_JAX_SHARED")


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Cat", "cat"),
        ("a cat, an owl and the dog!", "cat owl and dog"),
        ("U.S.A.", "usa"),
        ("\tDenver\n Broncos ", "denver broncos"),
        ("theatre anagram", "theatre anagram"),  # articles are whole words
        ("a.", ""),  # punctuation goes first
        ("the-an", "thean"),
        ("“quoted”", "“quoted”"),  # only ASCII punctuation goes
        ("the…end", "…end"),
    ],
)
def test_answers_are_normalized(text, normal):
    assert normalize_answer(text) == normal


def test_squad_counts_words_and_takes_the_best_answer():
    answers = [["Denver Broncos", "the Denver Broncos football team"], ["1066"], ["x"]]
    found = squad_scores(["Broncos, Denver", "in 1066", None], answers)
    assert found["exact"] == 0
    # The same two words in another order; one of two words; nothing predicted.
    assert found["f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert squad_scores(["The BRONCOS!"], [["Denver", "broncos"]]) == {"f1": 1, "exact": 1}
    # A word counts as often as it is in both.
    assert squad_scores(["dog dog cat"], [["dog cat cat cat"]])["f1"] == pytest.approx(4 / 7)
    # evaluate-v1.1.py finds no common word in two answers of nothing.
    assert squad_scores(["A"], [["a"]]) == {"f1": 0, "exact": 1}


def test_squad2_scores_what_has_no_answer():
    found = squad2_scores(["", "Paris", "", "in Rome", None], [[], [], ["x"], ["Rome"], ["y"]])
    assert found == pytest.approx(
        {
            "f1": (1 + 0 + 0 + 2 / 3 + 0) / 5,
            "exact": 1 / 5,
            "has_f1": 2 / 9,
            "has_exact": 0,
            "no_answer": 1 / 2,
        }
    )
    # An answer that is only an article does not count; the question then has none.
    assert squad2_f1(["", "a", "b"], [["the"], ["the"], ["the"]]).tolist() == [1, 1, 0]
    assert squad2_f1(["", "x"], [["the", "x"], ["the", "x"]]).tolist() == [0, 1]
    assert "no_answer" not in squad2_scores(["x"], [["x"]])
    assert set(squad2_scores([""], [[]])) == {"f1", "exact", "no_answer"}


def test_the_threshold_is_the_best_of_all():
    random = np.random.default_rng(0)
    for _ in range(200):
        n = random.integers(1, 9)
        margins = random.integers(-3, 4, n).astype(float)  # with equal ones
        answered, unanswered = random.integers(0, 4, (2, n)) / 4
        threshold, score = best_threshold(margins, answered, unanswered)

        def mean(at, margins=margins, answered=answered, unanswered=unanswered):
            return np.where(margins > at, unanswered, answered).mean()

        assert mean(threshold) == pytest.approx(score)
        assert score == pytest.approx(max(mean(at) for at in [-9, *margins]))


@pytest.mark.parametrize(
    ("predicted", "answer", "f1", "exact"),
    [
        ("北京大学", "北京大学", 1, 1),
        ("《北京，大学》。", "北京大学", 1, 1),  # punctuation does not count
        ("北京大学", "北京的大学", 2 * (2 / 4) * (2 / 5) / (2 / 4 + 2 / 5), 0),  # 2 in a row
        ("清华", "北京大学", 0, 0),
        ("", "北京", 0, 0),
        ("Windows 95", "windows 95版", 2 * 1 * (2 / 3) / (1 + 2 / 3), 0),
        ("3.5 km", "3.5公里", 2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3), 0),
        ("A-B", "ab", 1, 1),  # a hyphen goes without leaving a space
        ("京…", "京", 2 * (1 / 2) * 1 / (1 / 2 + 1), 0),  # an ellipsis stays
    ],
)
def test_cmrc_takes_the_longest_common_run(predicted, answer, f1, exact):
    assert cmrc_scores([predicted], [[answer]]) == pytest.approx({"f1": f1, "exact": exact})


def test_cmrc_takes_the_best_answer_and_counts_what_is_lacking():
    found = cmrc_scores(["北京", None], [["上海", "北京"], ["广州"]])
    assert found == {"f1": 0.5, "exact": 0.5}


def test_cmrc_equals_a_search_of_all_runs():
    random = np.random.default_rng(1)
    for _ in range(50):
        one, other = ("".join(random.choice(list("甲乙丙"), random.integers(1, 8))) for _ in "ab")
        run = max(
            (b - a for a, b in itertools.combinations(range(len(one) + 1), 2) if one[a:b] in other),
            default=0,
        )
        expected = 2 * run / (len(one) + len(other))
        assert cmrc_scores([one], [[other]])["f1"] == pytest.approx(expected)


@pytest.mark.skipif(not SHARED, reason="BERT_JAX_SHARED is not set")
def test_real_predictions_get_the_official_figures(tmp_path):
    with tarfile.open(Path(SHARED) / "data" / "squad.tar.xz", "r:xz") as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / "squad"

    def load(version, system):
        data = json.loads((folder / f"squad-v{version}.json").read_text(encoding="utf-8"))["data"]
        answers = {
            question["id"]: [answer["text"] for answer in question["answers"]]
            for article in data
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        }
        predicted = json.loads((folder / "preds" / system).read_text(encoding="utf-8"))
        return [predicted.get(name) for name in answers], list(answers.values())

    predicted, answers = load("1.1", "1.1_Logistic_Regression_Baseline__Stanford_University_.json")
    assert len(answers) == 8_627
    assert predicted.count(None) == 8
    found = {
        name: round(100 * value, 6) for name, value in squad_scores(predicted, answers).items()
    }
    assert found == {"f1": 50.386, "exact": 39.758896}

    predicted, answers = load("2.0", "v2.0_BERT__single_model___Google_AI_Language_.json")
    found = {
        name: round(100 * value, 6) for name, value in squad2_scores(predicted, answers).items()
    }
    assert found == {
        "f1": 82.128878,
        "exact": 79.101856,
        "has_f1": 80.47678,
        "has_exact": 74.457471,
        "no_answer": 83.800151,
    }
