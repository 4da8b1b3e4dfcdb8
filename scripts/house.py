"""Prints which folder imports which: `python scripts/house.py`.

docs/contributing.md shows the output, and tests/test_layers.py checks it.
"""

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("data_pipeline", "bert_jax", "configs", "commands", "benchmarks")


def module_file(name: str) -> Path | None:
    """The file of one of our modules, given by its dotted name; None for anything else."""
    path = ROOT.joinpath(*name.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def imports_of(path: Path) -> set[str]:
    """Dotted names of the modules that a file imports, at the top or within functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {name if module_file(name) else str(node.module) for name in names}
    return found


def all_imports() -> dict[str, set[str]]:
    """The imports of each module of the packages and scripts, by dotted names."""
    patterns = ("run_*.py", *(f"{package}/**/*.py" for package in PACKAGES))
    files = sorted(path for pattern in patterns for path in ROOT.glob(pattern))
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): imports_of(path) for path in files
    }


def place(module: str) -> str:
    """The folder, or the file at the root of a package, that a module belongs to.

    >>> place("bert_jax.tasks.tagging.reader"), place("run_pretrain")
    ('bert_jax/tasks', 'run_pretrain.py')
    """
    parts = module.split(".")[:2]
    folder = ROOT.joinpath(*parts)
    return "/".join(parts) if folder.is_dir() else "/".join(parts) + ".py"


def main() -> None:
    """Prints a line for each place: its number of modules, and the places that it imports."""
    imports = all_imports()
    modules = Counter(place(name) for name in imports if not name.endswith("__init__"))
    for here in modules:
        used = {
            place(other)
            for name, others in imports.items()
            if place(name) == here
            for other in others
            if module_file(other)
        }
        print(f"{here} ({modules[here]})  ->  {', '.join(sorted(used - {here})) or 'nothing'}")


if __name__ == "__main__":
    main()
