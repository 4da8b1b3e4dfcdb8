import pytest

from bert_jax.tasks.task import check_known
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
