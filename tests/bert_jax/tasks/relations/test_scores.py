"""The official score of SemEval-2010 task 8."""

import random

import pytest

from bert_jax.tasks.relations.scores import relation_scores

RELATIONS = ("Cause-Effect", "Component-Whole", "Message-Topic")
LABELS = [f"{name}({pair})" for name in RELATIONS for pair in ("e1,e2", "e2,e1")] + ["Other"]

# The 19 labels in the order of their names, the first direction first, then Other.
OFFICIAL = [
    f"{name}({pair})"
    for name in (
        "Cause-Effect",
        "Component-Whole",
        "Content-Container",
        "Entity-Destination",
        "Entity-Origin",
        "Instrument-Agency",
        "Member-Collection",
        "Message-Topic",
        "Product-Producer",
    )
    for pair in ("e1,e2", "e2,e1")
] + ["Other"]


def test_by_hand():
    true = ["A(e1,e2)", "A(e1,e2)", "A(e2,e1)", "B(e1,e2)", "Other", "Other"]
    found = ["A(e1,e2)", "A(e2,e1)", "A(e2,e1)", "Other", "A(e1,e2)", "Other"]
    # A: 2 right of 4 found and 3 true, F1 4/7; B: none right; Other is left out.
    assert relation_scores(true, found) == pytest.approx({"macro_f1": 2 / 7, "accuracy": 3 / 6})


def test_recorded_from_the_official_computation():
    """Every kind of mistake; the figure is from the steps of the official scorer 1.2, in Perl."""
    true, found = [], []
    for i, there in enumerate(OFFICIAL):
        for j, said in enumerate(OFFICIAL):
            count = 20 + i if i == j else (7 * i + 3 * j) % 5
            true += [there] * count
            found += [said] * count
    assert len(true) == 1271
    scores = relation_scores(true, found)
    assert 100 * scores["macro_f1"] == pytest.approx(42.5633611829, abs=1e-9)


def _from_confusion_matrix(true, found):
    """By the scorer's own steps: a column of its own for the wrong direction."""

    def bare(label):
        return label.partition("(")[0]

    matrix = {}
    for there, said in zip(true, found, strict=True):
        wrong_direction = there != said and bare(there) == bare(said)
        key = ("wrong direction" if wrong_direction else bare(said), bare(there))
        matrix[key] = matrix.get(key, 0) + 1
    rows = {there for _, there in matrix} - {"Other"}
    total = 0
    for name in rows:
        right = matrix.get((name, name), 0)
        proposed = sum(count for (said, _), count in matrix.items() if said == name)
        wrong_direction = matrix.get(("wrong direction", name), 0)
        precision = right / (proposed + wrong_direction) if proposed else 0
        recall = right / sum(count for (_, there), count in matrix.items() if there == name)
        total += 2 * precision * recall / (precision + recall) if right else 0
    return total / len(rows) if rows else 0.0


@pytest.mark.parametrize("seed", range(30))
def test_as_from_the_confusion_matrix(seed):
    generator = random.Random(seed)
    labels = generator.sample(LABELS, generator.randint(1, len(LABELS)))
    true = generator.choices(labels, k=generator.choice([1, 10, 200]))
    found = [label if generator.random() < 0.5 else generator.choice(LABELS) for label in true]
    scores = relation_scores(true, found)
    assert scores["macro_f1"] == pytest.approx(_from_confusion_matrix(true, found), abs=1e-12)
