"""The import layers of the design: who may import whom."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A file imports only from rows above its own.
ROWS = (
    {"errors"},
    {
        "sharding",
        "losses",
        "scores",
        "answer_scores",
        "plots",
        "torch_pickle",
        "stop_signal",
        "throughput",
        "profiler",
    }
    | {"dropout", "gelu", "layer_norm", "projection", "hlo", "machine", "distributed"},
    {"attention_tpu", "adapters", "base"},
    {"attention"},
    {"model", "optimizer", "tracker"},
    {"heads", "task_heads", "convert", "convert_config", "flops"},
    {"pretraining", "finetuning", "train", "hugging_face", "resize"},
    {"checkpoint", "evaluate", "warm_start", "compile_ahead"},
    {"loop"},
)
FORBIDDEN = {
    "bert_jax": {"tensorflow", "tensorflow_datasets", "data_pipeline", "configs"},
    "data_pipeline": {"jax", "flax", "optax", "orbax", "bert_jax", "configs"},
}


def imported_modules(path):
    """Absolute names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_stay_apart(package):
    for path in (ROOT / package).rglob("*.py"):
        found = {name.split(".")[0] for name in imported_modules(path)} & FORBIDDEN[package]
        assert not found, f"{path.relative_to(ROOT)} imports {found}"


def test_bert_jax_imports_upwards_only():
    rows = {name: number for number, row in enumerate(ROWS) for name in row}
    for path in (ROOT / "bert_jax").glob("[!_]*.py"):
        for name in imported_modules(path):
            parts = name.split(".")
            if parts[0] == "bert_jax" and len(parts) > 1:
                assert rows[parts[1]] < rows[path.stem], f"{path.name} imports {name}"


def test_only_scripts_import_configs():
    for package in ("bert_jax", "data_pipeline"):  # benchmarks are scripts too
        for path in (ROOT / package).rglob("*.py"):
            assert not any(name.split(".")[0] == "configs" for name in imported_modules(path))


def test_every_file_has_a_row():
    files = {path.stem for path in (ROOT / "bert_jax").glob("[!_]*.py")}
    assert files == set().union(*ROWS)
