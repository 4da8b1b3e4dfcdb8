import pytest

from bert_jax.tasks.labels import check_known, classes_of
from data_pipeline.errors import DataError


def test_a_message_about_a_class_is_short_however_many_there_are():
    known = [f"class-{number}" for number in range(5_000)]
    check_known("f:1", "class-4999", known)
    with pytest.raises(DataError) as caught:
        check_known("f:1", "x" * 1_000, known, kind="type", where="the task")
    message = str(caught.value)
    assert message.startswith("f:1: the type 'xxx")
    assert "of the task: class-0, class-1" in message
    assert len(message) < 700


def test_a_label_of_its_own_for_each_row_is_refused():
    texts = ["x" * 99 + str(number) for number in range(300)]
    with pytest.raises(DataError, match="300 training rows have 300 different labels") as caught:
        classes_of(texts)
    assert "--columns.label" in str(caught.value)
    assert len(str(caught.value)) < 300
    assert len(classes_of(texts[:200])) == 200  # one row for each class
    assert len(classes_of(texts * 2)) == 300
