"""What is installed holds every package of the house."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages

ROOT = Path(__file__).parent.parent
PACKAGES = ("bert_jax", "commands", "configs", "data_pipeline")


def test_every_folder_of_modules_is_in_the_wheel():
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    assert settings["options"]["packages"] == "find:"
    include = settings["options.packages.find"]["include"].split()
    found = set(find_packages(str(ROOT), include=include))
    modules = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    assert found == {".".join(path.parent.relative_to(ROOT).parts) for path in modules}
