"""What is refused, with what words, and that nothing is left behind."""

import math
import re
import signal
import sqlite3
from pathlib import Path

import pytest

from data_pipeline.errors import DataError
from data_pipeline.prepare import PrepareConfig, main, prepare


@pytest.fixture
def config(tmp_path):
    text = tmp_path / "text/a.txt"
    text.parent.mkdir()
    text.write_text("\n\n".join(f"Story {i}.\nThe old house {i}." for i in range(100)))
    return PrepareConfig(
        input=(str(text),), output=tmp_path / "corpus", vocab_size=200, processes=1
    )


def _with(config, **changes):
    return PrepareConfig(**{**vars(config), **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": ()}, "--input names no text"),
        ({"output": Path()}, "--output names no folder"),
        ({"input": ("nowhere/*.txt",)}, "nowhere/.*matches no file"),
        ({"vocab_size": 50}, "--vocab-size 50 is out of range"),
        ({"vocab_size": 0}, "--vocab-size 0 is out of range"),
        ({"vocab_size": 10**12}, "--vocab-size 1,000,000,000,000 is out of range"),
        ({"vocab": Path("vocab.txt")}, "--vocab-size is for a tokenizer to train"),
        ({"vocab": Path("vocab.txt"), "vocab_size": None}, "vocab.txt cannot be read"),
        ({"vocab": Path("a"), "model": Path("b")}, "exclude each other"),
        ({"model": Path("b"), "tokenizer": "wordpiece"}, "--tokenizer wordpiece does not fit"),
        ({"heldout_fraction": 1.0}, "--heldout-fraction 1.0"),
        ({"max_shard_tokens": 0}, "--max-shard-tokens 0"),
        ({"tokenizer_sample_mb": 0}, "--tokenizer-sample-mb 0"),
        ({"tokenizer_sample_mb": math.nan}, "--tokenizer-sample-mb nan"),
        ({"tokenizer_sample_mb": math.inf}, "--tokenizer-sample-mb inf"),
        ({"processes": 0}, "--processes 0"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(config, changes, message):
    with pytest.raises(DataError, match=message):
        prepare(_with(config, **changes))
    assert not config.output.exists()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("b.txt", b"", "is empty"),
        ("b.txt", b"caf\xe9", "not UTF-8 text: see byte 3"),
        ("b.jsonl", b'{"texts": "a"}', "line 1 has no text in the field 'text'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(config, tmp_path, name, data, message):
    (tmp_path / "text" / name).write_bytes(data)
    with pytest.raises(DataError, match=f"{name}.*{message}"):
        prepare(_with(config, input=(str(tmp_path / "text"),)))
    assert not config.output.exists()


def test_the_output_folder_must_be_free(config, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter.txt").touch()
    none = _with(config, input=("none.txt",))  # the output is looked at before the input
    with pytest.raises(DataError, match="is a file"):
        prepare(_with(none, output=Path(config.input[0])))
    with pytest.raises(DataError, match="holds other files"):
        prepare(_with(none, output=tmp_path / "full"))
    for unusable in (Path(config.input[0]) / "x", Path("/proc/x"), tmp_path / ("x" * 300)):
        with pytest.raises(DataError, match=r"cannot be made or written to .*name another"):
            prepare(_with(none, output=unusable))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/progress.sqlite").write_bytes(b"garbage" * 1000)
    with pytest.raises(DataError, match=r"progress.sqlite is damaged .*delete the folder"):
        prepare(_with(none, output=tmp_path / "damaged"))


def test_an_output_that_cannot_be_written_to_is_refused(config, monkeypatch):
    def refuse(path):
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(sqlite3, "connect", refuse)
    with pytest.raises(DataError, match=f"{config.output} cannot be made or written to"):
        prepare(config)


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        (
            "".join(map(chr, range(0x4E00, 0x4E00 + 900))),
            {"vocab_size": 120},
            "larger --vocab-size",
        ),
        (
            "abc " * 50,
            {"vocab_size": 120, "tokenizer": "sentencepiece-unigram"},
            "SentencePiece cannot make",
        ),
        ("\0\u200b\n", {}, "holds no text"),
        ("\u0301", {}, "holds no sentence"),
    ],
)
@pytest.mark.parametrize("parent", ["", "new/parents"])
@pytest.mark.parametrize("exists", [False, True])
def test_a_mistake_found_late_leaves_nothing(
    config, tmp_path, text, changes, message, parent, exists
):
    config = _with(config, output=tmp_path / parent / "corpus", language="zh")
    if exists:
        config.output.mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    good = Path(config.input[0]).read_text()
    Path(config.input[0]).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        prepare(_with(config, **changes))
    assert sorted(tmp_path.rglob("*")) == before
    Path(config.input[0]).write_text(good, encoding="utf-8")
    assert prepare(config).split("train").documents


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--inptu", "a", "--output", "b"], "--inptu.*--input"),
        (["--input", "none.txt", "--output", "b"], "none.txt matches no file"),
        (["--input", "a", "--output", "b", "--vocab-size", "many"], "--vocab-size.*many"),
        (["--input", "a", "--output", "b", "--language", "fr"], "fr.*en.*zh"),
        (["--verify", "none"], "none is not a corpus"),
        (["--verify"], "takes one corpus folder"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    terminate = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    signal.signal(signal.SIGTERM, terminate)
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line
    assert not (tmp_path / "b").exists()
