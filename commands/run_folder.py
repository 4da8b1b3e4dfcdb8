"""The work folder of a run in training; pre-training and fine-tuning use it in the same way."""

import contextlib
import fcntl
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bert_jax.errors import UserError
from bert_jax.files import read_json
from bert_jax.models.flops import peak_flops
from bert_jax.monitoring.tracker import SilentTracker, Tracker
from bert_jax.parallel import distributed
from bert_jax.training.checkpoint import Checkpoints
from bert_jax.training.config import LoopConfig
from commands.same_run import MAY_DIFFER, differences, first_start_of
from data_pipeline.files import write_json
from data_pipeline.tokenization.interface import Tokenizer

# Network storage may show a new file late.
_SECONDS_UNTIL_SEEN = 60


@contextlib.contextmanager
def opened(
    work_dir: Path,
    config: LoopConfig,
    saved_config: dict[str, Any],
    tokenizer: Tokenizer,
    *,
    started: float,
    may_differ: Sequence[str] = MAY_DIFFER,
    base: Mapping[str, np.ndarray] | None = None,
) -> Iterator[tuple[Checkpoints, float]]:
    """Makes and locks a work folder and records the run in it; every host must call this.

    Args:
      work_dir: the folder.
      config: says which checkpoints are kept.
      saved_config, tokenizer: what is recorded.
      started: Unix time, recorded as the first start of a new run.
      may_differ: fields in which the same run may differ.
      base: see `Checkpoints`.

    Yields:
      The run's checkpoints, and the Unix time of its first start.
    """
    with contextlib.ExitStack() as stack:
        # All hosts leave each block together, so that none reads what another has yet to write.
        with distributed.all_or_none():
            if distributed.is_first():
                stack.enter_context(locked(work_dir))
            first_start = first_start_of(work_dir, saved_config, may_differ) or started
        with distributed.all_or_none():
            if distributed.is_first():
                write_json(work_dir / "config.json", saved_config | {"first_start": first_start})
                tokenizer.save(work_dir)
        with distributed.all_or_none():
            if not distributed.is_first():
                check_shared(work_dir, saved_config)
        checkpoints = Checkpoints(
            work_dir / "checkpoints", config.keep_checkpoints, config.keep_best, base
        )
        if jax.process_count() == 1:  # of several, one that fails must not wait for the others
            stack.callback(checkpoints.close)
        yield checkpoints, first_start
        checkpoints.close()


def tracker_of(work_dir: Path, step: int | None) -> Tracker:
    """The tracker of a run that continues from `step`; only the first host writes anything."""
    return Tracker(work_dir, step) if distributed.is_first() else SilentTracker()


def total_peak_flops(dtype: str) -> float | None:
    """Peak of all devices together in FLOP/s, None if it is not known."""
    peak = peak_flops(jax.devices()[0].device_kind, dtype)
    return peak and peak * jax.device_count()


def check_shared(work_dir: Path, saved_config: dict[str, Any]) -> None:
    """Compares this process's configuration with the one that process 0 wrote."""
    path = work_dir / "config.json"
    deadline = time.monotonic() + _SECONDS_UNTIL_SEEN
    while not path.is_file():
        if time.monotonic() > deadline:
            raise UserError(
                f"{path}, which process 0 has written, does not appear on this host; give a "
                "--work-dir on storage that all hosts share"
            )
        time.sleep(0.1)
    first = read_json(path)
    first.pop("first_start")
    if differing := differences(
        first, saved_config, may_differ=("corpus", "work_dir", "init_from")
    ):
        raise UserError(
            f"this process was started with other options than process 0 ({'; '.join(differing)}); "
            "give all hosts the same ones"
        )


@contextlib.contextmanager
def locked(work_dir: Path) -> Iterator[None]:
    """Makes the work folder and locks it against other processes."""
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        file = open(work_dir / ".lock", "w")  # noqa: SIM115
    except OSError as error:
        raise UserError(
            f"{work_dir} cannot be written ({error.strerror}); give another --work-dir"
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is training in {work_dir}; wait for it or give another --work-dir"
            ) from None
        yield
