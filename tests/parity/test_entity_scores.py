"""Our entity scores against seqeval, on tags of every scheme and of none."""

import random

import pytest
from seqeval.metrics import f1_score, precision_score, recall_score

from bert_jax.tasks.tagging.scores import entity_scores
from bert_jax.tasks.tagging.tags import spans_of_tags

# seqeval divides by zero where nothing is there to be found.
pytestmark = pytest.mark.filterwarnings("ignore::Warning")

TYPES = ("PER", "LOC", "creative-work")
SENTENCES = 20_000


def _noise(generator: random.Random, prefixes: str) -> list[str]:
    """Any tags one after the other."""
    return [
        "O" if generator.random() < 0.4 else f"{generator.choice(prefixes)}-{name}"
        for name in generator.choices(TYPES, k=generator.randint(1, 12))
    ]


def _valid(generator: random.Random, scheme: str) -> list[str]:
    """Tags of random spans in a scheme."""
    tags, before = [], ""
    for _ in range(generator.randint(1, 6)):
        if generator.random() < 0.5:
            tags += ["O"] * generator.randint(1, 3)
            before = ""
        name, size = generator.choice(TYPES), generator.randint(1, 4)
        prefixes = ["B"] + ["I"] * (size - 1)
        if scheme == "IOB1" and name != before:
            prefixes[0] = "I"
        if scheme == "BIOES":
            prefixes[-1] = "S" if size == 1 else "E"
        tags += [f"{prefix}-{name}" for prefix in prefixes]
        before = name
    return tags


@pytest.mark.parametrize("kind", ["BIO", "IOB1", "BIOES", "any B and I", "any"])
def test_scores_are_those_of_seqeval(kind):
    generator = random.Random(kind)
    prefixes = "BI" if kind == "any B and I" else "BIES"
    true, predicted = [], []
    for _ in range(SENTENCES):
        is_noise = kind.startswith("any")
        tags = _noise(generator, prefixes) if is_noise else _valid(generator, kind)
        true.append(tags)
        found = [
            tag if generator.random() < 0.8 else generator.choice(["O", *_noise(generator, "BIES")])
            for tag in tags
        ]
        predicted.append(found)
    # In parts, so that a mistake in a few sentences is not hidden in the average of all.
    for first in range(0, SENTENCES, 40):
        part = slice(first, first + 40)
        scores = entity_scores(
            [spans_of_tags(tags) for tags in true[part]],
            [spans_of_tags(tags) for tags in predicted[part]],
        )
        theirs = {
            "precision": precision_score(true[part], predicted[part]),
            "recall": recall_score(true[part], predicted[part]),
            "f1": f1_score(true[part], predicted[part]),
            "macro_f1": f1_score(true[part], predicted[part], average="macro"),
        }
        assert scores == pytest.approx(theirs, abs=1e-12)


def test_nothing_to_find_and_nothing_found():
    for true, predicted in ((["O"], ["O"]), (["B-PER"], ["O"]), (["O"], ["B-PER"])):
        ours = entity_scores([spans_of_tags(true)], [spans_of_tags(predicted)])
        assert ours["f1"] == f1_score([true], [predicted]) == 0
