"""The floors of the house: nothing imports upwards, at any level (docs/contributing.md has the map).

Each line lists the places of one folder, from the ground up; places that share a floor do not know
each other. Modules at a package's root are floors of their own.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = {
    "": "data_pipeline < bert_jax < configs < commands < run_convert run_finetune run_predict run_pretrain benchmarks",
    "bert_jax": "errors < parallel monitoring < layers < models < objectives interchange < training < analysis tasks",
    "data_pipeline": "errors < command_line files keyed_random < text < tokenization < corpus < pretraining finetune < prepare",
    "commands": "errors tf1 < source < export work_dir predict < pretrain finetune",
}  # fmt: skip
# Whole packages that a folder never imports; `bert_jax.tasks` alone may know where data is from.
FORBIDDEN = {"data_pipeline": {"jax", "flax", "optax", "orbax"}, "bert_jax": {"tensorflow", "tensorflow_datasets"}}  # fmt: skip
