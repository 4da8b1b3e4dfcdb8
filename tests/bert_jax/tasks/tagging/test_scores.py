"""Scores of entities; tests/parity compares them with seqeval."""

import pytest

from bert_jax.tasks.tagging.scores import entity_scores


def test_by_hand():
    true = [[("PER", 0, 2), ("LOC", 3, 4)], [("PER", 0, 1)], []]
    found = [[("PER", 0, 2), ("LOC", 3, 5)], [("LOC", 0, 1)], [("ORG", 0, 1)]]
    # One is right: a longer one, one of another type, and one where nothing is, are wrong.
    assert entity_scores(true, found) == pytest.approx(
        {
            "precision": 1 / 4,
            "recall": 1 / 3,
            "f1": 2 / 7,
            "macro_f1": (2 / 3 + 0 + 0) / 3,  # PER, LOC, ORG
        }
    )


def test_an_entity_counts_in_its_own_text_only():
    assert entity_scores([[("PER", 0, 1)], []], [[], [("PER", 0, 1)]])["f1"] == 0


def test_nothing_to_find():
    assert set(entity_scores([[]], [[]]).values()) == {0}
