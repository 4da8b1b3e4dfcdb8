"""The figures of speed, by a clock that goes only when told to."""

import threading
import time
from types import SimpleNamespace

import pytest

from bert_jax.monitoring import throughput
from bert_jax.monitoring.throughput import DeviceWatch, Throughput

SIZES = {"sequences": 4, "tokens": 30, "slots": 40}


class Clock:
    """Stands in for the module `time`; the wall clock is far from the performance counter."""

    def __init__(self):
        self.now = 500.0

    def perf_counter(self):
        return self.now

    def time(self):
        return 1e9 + self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(throughput, "time", clock)
    return clock


def a_device(idle_since=None):
    """One that is busy, or idle since then."""
    return SimpleNamespace(idle_since=lambda: idle_since, dispatched=lambda outputs: None)


def take_steps(meter, clock, number, seconds):
    for _ in range(number):
        meter.count((), **SIZES)
        clock.now += seconds


def test_rates_since_the_last_row(clock):
    meter = Throughput(a_device(), peak_flops=1e4)
    meter.begin_stage(flops_per_step=500.0)
    clock.now += 70  # opening the data, and compilation
    meter.count((), **SIZES)
    take_steps(meter, clock, 6, 0.25)
    with meter.paused():
        clock.now += 1000
    take_steps(meter, clock, 2, 0.25)
    figures = meter.read(9)
    goodput = figures.pop("goodput")
    assert figures == pytest.approx(
        {
            "sequences_per_second": 16.0,
            "tokens_per_second": 120.0,
            "padding_share": 0.25,
            "input_wait_share": 0.0,
            "model_flops_per_second": 2000.0,
            "mfu": 0.2,
        }
    )
    # The first step counts as long as the others.
    assert goodput == pytest.approx(9 * 0.25 / (70 + 8 * 0.25 + 1000))
    take_steps(meter, clock, 2, 0.5)
    assert meter.read(11)["sequences_per_second"] == pytest.approx(8.0)


def test_a_step_that_compiled_has_no_rates(clock):
    meter = Throughput(a_device())
    for step in (0, 10):
        meter.begin_stage(500.0)
        clock.now += 70
        meter.count((), **SIZES)
        assert meter.read(step + 1) == {}
        take_steps(meter, clock, 1, 2.0)
        figures = meter.read(step + 2)
        assert figures["tokens_per_second"] == pytest.approx(15.0)
        assert "mfu" not in figures


@pytest.mark.parametrize(
    ("idle_from", "share"),
    [
        (None, 0.0),  # busy all along: the host waited, the device did not
        (-5.0, 0.3),  # done before the wait began: all of it
        (2.0, 0.1),  # done within the wait: the rest of it
    ],
)
def test_waiting_for_input_counts_while_the_device_idles(clock, idle_from, share):
    def batches():
        yield 1
        clock.now += 3.0
        yield 2

    device = a_device()
    meter = Throughput(device)
    meter.begin_stage(500.0)
    meter.count((), **SIZES)
    clock.now += 7.0
    meter.count((), **SIZES)
    stream = meter.timed(batches())
    assert next(stream) == 1
    if idle_from is not None:
        since = clock.now + idle_from
        device.idle_since = lambda: since
    assert next(stream) == 2
    figures = meter.read(2)
    assert figures["input_wait_share"] == pytest.approx(share)
    assert figures["goodput"] == pytest.approx(2 * 10.0 * (1 - share) / 10.0)
    assert list(stream) == []


def test_goodput_counts_all_attempts(clock):
    """Killed at step 35 with step 25 saved; started again after an hour."""
    start = clock.time()
    rows = []

    def attempt(meter, first, until, seconds):
        clock.now += 40.0  # start, restoring, compilation
        meter.begin_stage(500.0)
        meter.count((), **SIZES)
        clock.now += 0.001
        for step in range(first + 1, until + 1):
            if step > first + 1:
                take_steps(meter, clock, 1, seconds)
            if step % 10 == 0:
                row = {"step": step, "split": "train", "time": clock.time()}
                rows.append(row | meter.read(step))

    attempt(Throughput(a_device(), first_start=start), 0, 35, 1.0)
    assert [row["step"] for row in rows] == [10, 20, 30]
    rows = [{"step": 0, "split": "eval", "time": 0.0}, *(row for row in rows if row["step"] <= 25)]
    clock.now += 3600.0
    meter = Throughput(a_device(), first_start=start, rows=rows, step=25)
    attempt(meter, 25, 50, 2.0)
    # Steps 21 to 25 left no row; they count as long as the others of their row.
    productive = [10.0, 20.0, 40.0, 60.0, 80.0]
    found = [row["goodput"] * (row["time"] - start) for row in rows[1:]]
    assert found == pytest.approx(productive, rel=1e-3)
    assert rows[-1]["time"] - start == pytest.approx(40 + 34 + 3600 + 40 + 24 * 2.0, abs=0.1)


def test_the_warning_comes_once_in_a_stage_and_not_with_the_first_row(clock):
    device = a_device(idle_since=0.0)
    meter = Throughput(device)

    def waits(share):
        clock.now += 10.0 * share
        yield 0

    def row(share):
        next(meter.timed(waits(share)))
        take_steps(meter, clock, 1, 10.0 * (1 - share))
        return meter.input_warning(meter.read(0))

    for _ in range(2):
        meter.begin_stage(500.0)
        meter.count((), **SIZES)
        assert meter.input_warning(meter.read(0)) is None
        assert row(0.9) is None
        assert row(0.1) is None
        warning = row(0.4)
        assert "40% of the time" in warning
        assert "CPU cores" in warning
        assert row(0.4) is None


class Output:
    """An output of a step that is done when it is told to be."""

    def __init__(self, error=None):
        self.done = threading.Event()
        self.error = error

    def block_until_ready(self):
        self.done.wait()
        if self.error:
            raise self.error
        return self


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def outputs():
    outputs = Output(), Output(RuntimeError("out of memory"))
    yield outputs
    for output in outputs:
        output.done.set()


def test_the_device_is_idle_once_the_last_step_is_done(outputs):
    device = DeviceWatch()
    begin = device.idle_since()
    assert begin is not None
    first, second = outputs
    device.dispatched({"loss": first})
    device.dispatched({"loss": second})
    assert device.idle_since() is None
    with device:
        first.done.set()
        until(lambda: device._done[0] == 1)
        found = device.idle_since()
        second.done.set()
        until(lambda: device._done[0] == 2)
    assert found is None
    assert device.idle_since() >= begin
    assert not device._thread.is_alive()
