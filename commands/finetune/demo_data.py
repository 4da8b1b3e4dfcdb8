"""The data of the demo: which package does a docstring come from?

Paragraphs from the docstrings of the largest installed packages, without the packages' names.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.files import write_text
from data_pipeline.keyed_random import derive_key, permute
from data_pipeline.text.embedded import MapFiles, module_prose, python_files

CLASSES = 10
TRAIN_PER_CLASS, DEV_PER_CLASS = 400, 100
_FILES_PER_CLASS = 250
_WORDS = range(6, 80)  # of a paragraph
# Other names of a package.
_NICKNAMES = {
    "numpy": ("np", "ndarray"),
    "tensorflow": ("tf", "tensorflow_datasets"),
    "sklearn": ("scikit-learn", "scikit"),
    "matplotlib": ("mpl", "pyplot", "plt"),
    "jax": ("jnp",),
    "pandas": ("pd",),
}
HIDDEN = "_"  # replaces the name of a package


def package_of(path: Path, roots: Sequence[Path]) -> str:
    """The top-level package that a file belongs to; empty if it is in none."""
    for root in roots:
        if path.is_relative_to(root):
            parts = path.relative_to(root).parts
            return parts[0] if len(parts) > 1 else ""
    return ""


def hide_names(text: str, names: Iterable[str]) -> str:
    """Replaces every whole word that is one of the names, ignoring case.

    >>> hide_names("NumPy arrays, as in np.array; numpyro stays", ["numpy", "np"])
    '_ arrays, as in _.array; numpyro stays'
    """
    words = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    pattern = rf"(?<![A-Za-z0-9])(?:{words})(?![A-Za-z0-9])"
    return re.sub(pattern, HIDDEN, text, flags=re.IGNORECASE)


def write_packages(
    folder: Path,
    roots: Sequence[Path],
    map_files: MapFiles = map,
    files: Callable[[], Iterable[Path]] = python_files,
) -> None:
    """Writes `train.tsv` and `dev.tsv`, columns "text" and "label", unless they exist.

    All paragraphs of a module are in the same file. A paragraph that two packages share is left
    out. `roots` hold the packages, `files` returns their modules, and `map_files` is an ordered map
    such as a process pool's.
    """
    if (folder / "train.tsv").is_file() and (folder / "dev.tsv").is_file():
        return
    modules: dict[str, list[Path]] = defaultdict(list)
    for path in files():
        modules[package_of(path, roots)].append(path)
    modules.pop("", None)
    largest = sorted(modules, key=lambda name: (-len(modules[name]), name))[: 2 * CLASSES]
    paragraphs = {name: _paragraphs(modules[name], map_files) for name in largest}
    packages_with = Counter(text for found in paragraphs.values() for text, _ in found)
    rows: dict[str, dict[str, list[str]]] = {}
    names = {name for label in largest for name in (label, *_NICKNAMES.get(label, ()))}
    for label in largest:
        split: dict[str, list[str]] = {"train": [], "dev": []}
        for text, is_dev in paragraphs[label]:
            if packages_with[text] == 1:
                split["dev" if is_dev else "train"].append(hide_names(text, names))
        if len(split["train"]) >= TRAIN_PER_CLASS / 4 and len(split["dev"]) >= DEV_PER_CLASS / 4:
            rows[label] = split
        if len(rows) == CLASSES:
            break
    if len(rows) < 2:
        raise DataError(
            f"only {len(rows)} of the installed packages have enough docstrings; name a task and "
            "data of your own: run_finetune.py --help"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, limit in (("dev", DEV_PER_CLASS), ("train", TRAIN_PER_CLASS)):
        lines = ["text\tlabel\n"]
        for label, split in sorted(rows.items()):
            lines += [f"{text}\t{label}\n" for text in split[name][:limit]]
        write_text(folder / f"{name}.tsv", "".join(lines))


def _paragraphs(paths: Sequence[Path], map_files: MapFiles) -> list[tuple[str, bool]]:
    """(paragraph, whether it is for the dev set) from some of a package's modules, each once."""
    order = permute(np.arange(len(paths)), len(paths), derive_key(0, 40, 0))
    chosen = [paths[index] for index in order[:_FILES_PER_CLASS]]
    seen: set[str] = set()
    found = []
    for number, prose in enumerate(map_files(module_prose, chosen)):
        for text in prose:
            text = " ".join(text.split())
            if len(text.split()) in _WORDS and text not in seen:
                seen.add(text)
                found.append((text, number % 5 == 0))
    return found
