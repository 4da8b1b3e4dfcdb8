"""The floors of the house: nothing imports upwards, at any level.

Each line lists the places of one folder from the ground up; places that share a floor do not know
each other. `python scripts/house.py` prints who imports whom.
"""

import pytest

from scripts.house import ROOT, all_imports, main

FLOORS = {
    "": "data_pipeline < bert_jax < configs < commands < "
    "run_convert run_finetune run_predict run_pretrain benchmarks",
    "bert_jax": "errors < bounds files < parallel monitoring < layers < models < objectives "
    "interchange < training < analysis tasks",
    "data_pipeline": "errors < command_line files keyed_random tensorflow_setup tfds workers < "
    "text < tokenization < corpus < pretraining finetune < prepare",
    "commands": "errors folders same_run < saved_model run_folder < export < exporters < "
    "pretrain finetune < predict convert",
}
FORBIDDEN = {
    "data_pipeline": {"jax", "flax", "optax", "orbax"},
    "bert_jax": {"tensorflow", "tensorflow_datasets"},
}
MAY_IMPORT_DATA = "bert_jax.tasks."
IMPORTS = all_imports()


@pytest.mark.parametrize("folder", FLOORS)
def test_nothing_imports_upwards(folder):
    floors = {
        place: number
        for number, floor in enumerate(FLOORS[folder].split(" < "))
        for place in floor.split()
    }
    inside = f"{folder}." if folder else ""
    for name, imports in IMPORTS.items():
        place = name.removeprefix(inside).split(".")[0]
        if not name.startswith(inside) or place == "__init__":
            continue
        assert place in floors, f"{name} has no floor"
        for other in (x.removeprefix(inside) for x in imports if x.startswith(inside)):
            target = other.split(".")[0]
            if target in floors and target != place:
                assert floors[target] < floors[place], f"{name} imports {inside}{other}"


def test_nothing_imports_in_a_circle():
    done = set()

    def visit(name, above):
        assert name not in above, " -> ".join((*above, name))
        if name not in done:
            for other in IMPORTS.get(name, ()):
                visit(other, (*above, name))
            done.add(name)

    for name in IMPORTS:
        visit(name, ())


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_stay_apart(package):
    for name, imports in IMPORTS.items():
        if name.startswith(f"{package}."):
            used = {other.split(".")[0] for other in imports}
            assert not used & FORBIDDEN[package], name
            if package == "bert_jax" and not name.startswith(MAY_IMPORT_DATA):
                assert "data_pipeline" not in used, name


def test_the_page_for_contributors_has_the_map_as_it_is(capsys):
    main()
    found = [line for line in capsys.readouterr().out.splitlines() if line[:10] != "benchmarks"]
    page = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
    assert "\n".join(found) in page, "put what `python scripts/house.py` prints into the page"
