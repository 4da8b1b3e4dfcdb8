"""Whose a work folder is: the same run, continued, or another one that must not be touched."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bert_jax.errors import UserError
from bert_jax.files import read_json
from bert_jax.models.registry import of_today
from bert_jax.training.saved_params import saved_steps

# These change neither the numbers of a run nor which steps it logs, so a resume may change them.
MAY_DIFFER = (
    "loop.save_every",
    "loop.keep_checkpoints",
    "corpus",
    "work_dir",
    "mesh",
    "model.remat",
    "base.folder",  # its fingerprint counts
)
# Likewise of a fine-tuning: of what it starts from, trains on and is judged by the content counts,
# not the place; what it predicts at the end has no part in it.
MAY_DIFFER_IN_FINETUNING = (
    *MAY_DIFFER,
    "init_from",
    "start_step",
    "base",  # its parameters are among those of start_fingerprint
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
    """The work folder holds a run of another configuration."""


def earlier_config(work_dir: Path) -> dict[str, Any]:
    """The configuration of the run that the work folder holds.

    Empty for a new folder, and for one in which a run saved nothing: there is nothing to lose.

    Raises:
      UserError: the folder cannot be used.
    """
    path = work_dir / "config.json"
    if path.is_file():
        remedy = "give another --work-dir or restore it from a checkpoint's config/metadata"
        config = read_json(path, remedy)
        if "first_start" in config:  # others have a config.json too, transformers among them
            return _of_today(config) if saved_steps(work_dir) else {}
    # A run that ends while it writes its first file leaves these.
    begun = {work_dir / ".lock", work_dir / "config.json.tmp"}
    if work_dir.exists() and (not work_dir.is_dir() or any(set(work_dir.iterdir()) - begun)):
        raise UserError(
            f"{work_dir} is not the work folder of a run and not empty; give another --work-dir"
        )
    return {}


def _of_today(config: Mapping[str, Any]) -> dict[str, Any]:
    """A saved configuration, whose model may be from before it named its architecture."""
    return {**config, "model": of_today(config["model"])} if "model" in config else dict(config)


def check_seeds_dir(work_dir: Path, export_record: Path) -> None:
    """Raises UserError for a folder that cannot hold the work folders of several seeds.

    What else is in it would be taken for the model that it holds; what they exported to it is named
    in the record.
    """
    if work_dir.exists() and not work_dir.is_dir():
        raise UserError(f"{work_dir} is no folder; give another --work-dir")
    known = re.compile(r"seed-\d+|(seeds|export)\.json(\.tmp)?|\..*")
    others = sorted(path.name for path in work_dir.glob("*") if not known.fullmatch(path.name))
    if export_record.is_file():
        exported = Path(read_json(export_record)["folder"])
        holding = {exported, *exported.parents}
        others = [name for name in others if (work_dir / name).resolve() not in holding]
    if others:
        raise UserError(
            f"{work_dir} is no folder of several seeds, as it holds {', '.join(others[:5])}; give "
            "another --work-dir"
        )


def check_same_run(
    work_dir: Path,
    earlier: dict[str, Any],
    saved_config: dict[str, Any],
    may_differ: Sequence[str] = MAY_DIFFER,
) -> None:
    """Raises OtherRunError where the work folder was made with another configuration."""
    if earlier and ("task" in earlier) != ("task" in saved_config):
        kinds = {True: "a fine-tuning", False: "a pre-training"}
        raise OtherRunError(
            f"{work_dir} holds {kinds['task' in earlier]}, not {kinds['task' in saved_config]}; "
            "give another --work-dir"
        )
    known = {name: value for name, value in earlier.items() if name in saved_config}
    differing = differences(known, saved_config, may_differ=may_differ) if earlier else []
    differing = [_FINGERPRINTS.get(line.partition(":")[0], line) for line in differing]
    steps = [config.get("start_step") for config in (earlier, saved_config)]
    if (
        _FINGERPRINTS["start_fingerprint"] in differing
        and None not in steps
        and len(set(steps)) > 1
    ):
        differing.append(f"started from step {steps[0]}, which is not there any more")
    if differing and differing[0].startswith("corpus_fingerprint"):
        differing = [f"another text: {earlier['corpus']} -> {saved_config['corpus']}"]
    if differing:
        raise OtherRunError(
            f"{work_dir} was made with another configuration ({'; '.join(differing)}); "
            "type the same options to continue it, or another --work-dir to start anew"
        )


def first_start_of(
    work_dir: Path, saved_config: dict[str, Any], may_differ: Sequence[str] = MAY_DIFFER
) -> float | None:
    """Unix time at which the run that the work folder holds was first started.

    None where it holds no run, or another one, as it may while that has saved nothing.
    """
    try:
        earlier = _of_today(json.loads((work_dir / "config.json").read_text(encoding="utf-8")))
        first_start = earlier.pop("first_start")
    except (OSError, ValueError, KeyError):
        return None
    return None if differences(earlier, saved_config, may_differ=may_differ) else float(first_start)


def differences(
    saved: Any, new: Any, prefix: str = "", may_differ: Sequence[str] = MAY_DIFFER
) -> list[str]:
    """Fields in which two resolved configurations differ, "field: old -> new".

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
