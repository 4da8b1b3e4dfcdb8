"""Tells whether a work folder holds the same run, to be continued, or another one."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bert_jax.errors import UserError
from bert_jax.files import read_json
from bert_jax.models.registry import of_today
from bert_jax.training.saved_params import saved_steps

# These affect neither a run's numbers nor which steps it logs, so a resumed run may change them.
MAY_DIFFER = (
    "loop.save_every",
    "loop.keep_checkpoints",
    "corpus",
    "work_dir",
    "mesh",
    "model.remat",
    "base.folder",  # compared by its fingerprint
)
# In a fine-tuning also these: its start and its data are compared by fingerprint, wherever they
# are, and the test data has no influence on it.
MAY_DIFFER_IN_FINETUNING = (
    *MAY_DIFFER,
    "init_from",
    "start_step",
    "base",  # part of start_fingerprint
    "data",
    "train",
    "dev",
    "test",
)

_FINGERPRINTS = {
    "start_fingerprint": "other parameters in --init-from",
    "data_fingerprint": "other training data",
    "dev_fingerprint": "other dev data",
}


class OtherRunError(UserError):
    """The work folder holds a run with another configuration."""


def earlier_config(work_dir: Path) -> dict[str, Any]:
    """The configuration of the run in a work folder; empty if it has not saved a checkpoint yet."""
    path = work_dir / "config.json"
    if path.is_file():
        remedy = "give another --work-dir or restore it from a checkpoint's config/metadata"
        config = read_json(path, remedy)
        if "first_start" in config:  # other programs write a config.json, too: transformers does
            return _with_architecture(config) if saved_steps(work_dir) else {}
    # A run that is killed while it writes its first file leaves these.
    begun = {work_dir / ".lock", work_dir / "config.json.tmp"}
    if work_dir.exists() and (not work_dir.is_dir() or any(set(work_dir.iterdir()) - begun)):
        raise UserError(
            f"{work_dir} is not empty and not the work folder of a run; give another --work-dir"
        )
    return {}


def _with_architecture(config: dict[str, Any]) -> dict[str, Any]:
    """A saved configuration; in one from an older version the model names no architecture."""
    model = config.get("model")
    return {**config, "model": of_today(model)} if isinstance(model, dict) else config


def check_seeds_dir(work_dir: Path, export_record: Path) -> None:
    """Refuses a folder that is not free for the work folders of several seeds.

    Anything else in it could be mistaken for part of the model there. An earlier export, which
    `export_record` names, is allowed.
    """
    if work_dir.exists() and not work_dir.is_dir():
        raise UserError(f"{work_dir} is not a folder; give another --work-dir")
    known = re.compile(r"seed-\d+|(seeds|export)\.json(\.tmp)?|\..*")
    others = sorted(path.name for path in work_dir.glob("*") if not known.fullmatch(path.name))
    if export_record.is_file():
        exported = Path(read_json(export_record)["folder"])
        holding = {exported, *exported.parents}
        others = [name for name in others if (work_dir / name).resolve() not in holding]
    if others:
        raise UserError(
            f"{work_dir} cannot be used for several seeds, because it holds "
            f"{', '.join(others[:5])}; give another --work-dir"
        )


def check_same_run(
    work_dir: Path,
    earlier: dict[str, Any],
    saved_config: dict[str, Any],
    may_differ: Sequence[str] = MAY_DIFFER,
) -> None:
    """Raises OtherRunError if the work folder was made with another configuration."""
    if not earlier:
        return
    kind, wanted = (
        "a fine-tuning" if "task" in config else "a pre-training"
        for config in (earlier, saved_config)
    )
    if kind != wanted:
        raise OtherRunError(f"{work_dir} holds {kind}, not {wanted}; give another --work-dir")
    known = {name: value for name, value in earlier.items() if name in saved_config}
    differing = [
        _FINGERPRINTS.get(line.partition(":")[0], line)
        for line in differences(known, saved_config, may_differ=may_differ)
    ]
    old_step, new_step = (config.get("start_step") for config in (earlier, saved_config))
    has_steps = None not in (old_step, new_step)
    if _FINGERPRINTS["start_fingerprint"] in differing and has_steps and old_step != new_step:
        differing.append(f"started from step {old_step}, which no longer exists")
    if differing and differing[0].startswith("corpus_fingerprint"):
        differing = [f"another text: {earlier['corpus']} -> {saved_config['corpus']}"]
    if differing:
        raise OtherRunError(
            f"{work_dir} was made with another configuration ({'; '.join(differing)}); repeat the "
            "options of that run to continue it, or give another --work-dir to start a new one"
        )


def first_start_of(
    work_dir: Path, saved_config: dict[str, Any], may_differ: Sequence[str] = MAY_DIFFER
) -> float | None:
    """Unix time at which this run was first started in the work folder; None if it never was."""
    try:
        earlier = _with_architecture(read_json(work_dir / "config.json"))
    except UserError:
        return None
    first_start = earlier.pop("first_start", None)
    return None if differences(earlier, saved_config, may_differ=may_differ) else first_start


def differences(
    saved: Any, new: Any, prefix: str = "", may_differ: Sequence[str] = MAY_DIFFER
) -> list[str]:
    """The fields in which two resolved configurations differ, as "field: old -> new".

    >>> differences({"seed": 0, "model": {"dtype": "float32"}},
    ...             {"seed": 1, "model": {"dtype": "float32"}})
    ['seed: 0 -> 1']
    """
    if prefix in may_differ:
        return []
    if isinstance(saved, dict) and isinstance(new, dict):
        keys = list(saved) + [key for key in new if key not in saved]
        pairs = [(str(key), saved.get(key), new.get(key)) for key in keys]
    elif isinstance(saved, list) and isinstance(new, list) and len(saved) == len(new):
        pairs = [(str(index), *values) for index, values in enumerate(zip(saved, new, strict=True))]
    else:
        return [] if saved == new else [f"{prefix}: {saved} -> {new}"]
    return [
        difference
        for key, old, value in pairs
        for difference in differences(old, value, f"{prefix}.{key}" if prefix else key, may_differ)
    ]
