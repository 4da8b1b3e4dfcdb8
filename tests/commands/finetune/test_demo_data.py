"""The labelled docstrings that every installation carries."""

import pytest

from commands.finetune import demo_data as packages
from commands.finetune.demo_data import hide_names, package_of, write_packages
from data_pipeline.errors import DataError
from data_pipeline.finetune.tables import read_rows


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Two packages with enough docstrings for ten training rows, and one with too few."""
    monkeypatch.setattr(packages, "TRAIN_PER_CLASS", 40)
    monkeypatch.setattr(packages, "DEV_PER_CLASS", 8)
    root = tmp_path / "site"
    for name, modules in (("alpha", 20), ("beta", 20), ("small", 1)):
        for number in range(modules):
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name / f"m{number}.py").write_text(
                f'"""The {name} module number {number} of these counts its own things here.\n\n'
                'This paragraph stands in every module of all the packages.\n"""\n'
            )
    return root


def test_rows_are_split_by_module_without_names_and_repetitions(site, tmp_path):
    files = sorted(site.rglob("*.py"))
    write_packages(tmp_path / "data", [site], files=lambda: files)
    rows = {
        name: [row.values for row in read_rows(str(tmp_path / f"data/{name}.tsv"))]
        for name in ("train", "dev")
    }
    assert {row["label"] for row in rows["train"]} == {"alpha", "beta"}
    assert len(rows["train"]) == 32
    assert len(rows["dev"]) == 8
    texts = [row["text"] for row in rows["train"] + rows["dev"]]
    assert all(text.startswith("The _ module number") for text in texts)
    # A second call leaves the files alone.
    (tmp_path / "data/dev.tsv").write_text("mine")
    write_packages(tmp_path / "data", [site], files=lambda: files)
    assert (tmp_path / "data/dev.tsv").read_text() == "mine"


def test_too_few_packages_are_refused(site, tmp_path):
    files = sorted((site / "alpha").rglob("*.py"))
    with pytest.raises(DataError, match="only 1 of the installed packages"):
        write_packages(tmp_path / "data", [site], files=lambda: files)
    assert not (tmp_path / "data").exists()


def test_names_and_packages(tmp_path):
    assert hide_names("Flax's flax-linen, FLAX; relax", ["flax"]) == "_'s _-linen, _; relax"
    assert package_of(tmp_path / "a/b/c.py", [tmp_path]) == "a"
    assert package_of(tmp_path / "c.py", [tmp_path]) == ""
    assert package_of(tmp_path / "c.py", [tmp_path / "x"]) == ""
