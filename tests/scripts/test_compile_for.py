"""`--compile-for` refuses what cannot be, before it compiles; tests/tpu compiles."""

import importlib.util

import pytest

import run_pretrain
from bert_jax.errors import UserError


@pytest.mark.parametrize("name", ["v9:2x2", "v5e", "4x4"])
def test_unknown_topologies_name_the_known_ones(name):
    with pytest.raises(UserError, match=r"v4:2x2x1 \(v4-8\).*v5e:4x4 \(v5e-16\)"):
        run_pretrain.main(["base", "--compile-for", name])


def test_a_missing_compiler_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the TPU compiler: make tpu-compiler"):
        run_pretrain.main(["base", "--compile-for", "v5e:4x4"])
