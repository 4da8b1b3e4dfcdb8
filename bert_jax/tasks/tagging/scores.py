"""Scores of entities, like those of `conlleval`: docs/decisions/entity-scores.md."""

from collections import Counter
from collections.abc import Collection, Sequence

from bert_jax.tasks.scores import f1, macro_f1

Entity = tuple[str, int, int]  # type, start, end


def entity_scores(
    true: Sequence[Collection[Entity]], predicted: Sequence[Collection[Entity]]
) -> dict[str, float]:
    """Micro-averaged precision, recall and F1 of entities whose type, start and end are right.

    As in CoNLL-2003's `conlleval` and seqeval's default mode. "macro_f1" is the mean over the types
    that occur on either side. A share of nothing is 0.
    """
    right, all_true, all_predicted = Counter[str](), Counter[str](), Counter[str]()
    for there, found in zip(true, predicted, strict=True):
        right.update(entity[0] for entity in set(there) & set(found))
        all_true.update(entity[0] for entity in set(there))
        all_predicted.update(entity[0] for entity in set(found))
    return {
        "precision": right.total() / max(all_predicted.total(), 1),
        "recall": right.total() / max(all_true.total(), 1),
        "f1": f1(right.total(), all_predicted.total(), all_true.total()),
        "macro_f1": macro_f1(
            all_true.keys() | all_predicted.keys(), right, all_predicted, all_true
        ),
    }
