"""Where compiled programs are kept."""

import stat

import jax
import pytest

from bert_jax.machine import keep_compiled_programs


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An accelerator's process that keeps nothing yet; gives the folder it would choose."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path / "bert_jax" / "compilation"
    jax.config.update("jax_compilation_cache_dir", before)


def test_accelerators_keep_programs_in_the_users_cache(cache):
    keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir == str(cache)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_without_a_cache_folder_of_its_own_it_is_the_homes(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir == f"{tmp_path}/.cache/bert_jax/compilation"


def test_cpus_keep_nothing(cache, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir is None
    assert not cache.exists()


def test_what_the_user_chose_stays(cache, tmp_path):
    jax.config.update("jax_compilation_cache_dir", "elsewhere")
    keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir == "elsewhere"
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        keep_compiled_programs()
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    assert jax.config.jax_compilation_cache_dir is None
    assert not cache.exists()


def test_a_folder_that_cannot_be_made_is_one_line(cache, tmp_path, capsys):
    (tmp_path / "bert_jax").touch()
    keep_compiled_programs()
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{cache} cannot be made (" in line
    assert "JAX_COMPILATION_CACHE_DIR" in line
    assert jax.config.jax_compilation_cache_dir is None
