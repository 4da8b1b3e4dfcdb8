"""What a log shows of a long reading."""

import time

from data_pipeline.corpus.progress import tracked


def test_a_log_gets_a_line_now_and_then(monkeypatch, capsys):
    clock = {"now": 0.0}
    monkeypatch.setattr(time, "monotonic", lambda: clock["now"])
    values = []
    for value in tracked(((3_000_000, n) for n in range(8)), "reading", 30_000_000, 6_000_000):
        values.append(value)
        clock["now"] += 6
    assert values == list(range(8))
    assert capsys.readouterr().err.splitlines() == [
        "reading: 12 MB of 30 MB, 36 s left, 0.5 MB/s",
        "reading: 18 MB of 30 MB, 24 s left, 0.5 MB/s",
        "reading: 24 MB of 30 MB, 12 s left, 0.5 MB/s",
        "reading: 30 MB of 30 MB, 0 s left, 0.5 MB/s",
    ]


def test_without_a_total_there_is_no_time_left(monkeypatch, capsys):
    clock = {"now": 0.0}
    monkeypatch.setattr(time, "monotonic", lambda: clock["now"])
    for _ in tracked([(20_000_000, None)], "reading", None):
        clock["now"] = 10
    assert capsys.readouterr().err == "reading: 20 MB, 2.0 MB/s\n"
