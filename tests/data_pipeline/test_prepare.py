import errno
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.corpus import encode, shards, writing
from data_pipeline.errors import DataError
from data_pipeline.prepare import PrepareConfig, main, prepare
from data_pipeline.text import embedded, sources
from data_pipeline.tokenization.interface import SPECIAL_PIECES
from data_pipeline.tokenization.loading import load_tokenizer

WORDS = ["the", "a", "house", "horse", "river", "sees", "finds", "and", "old", "green", "slow"]


def _documents(count, seed=0):
    """Documents as lists of paragraphs; a paragraph is one sentence."""
    generator = random.Random(seed)
    return [
        [
            f"Story {seed} {i} {j} {' '.join(generator.choices(WORDS, k=8))}."
            for j in range(generator.randint(1, 6))
        ]
        for i in range(count)
    ]


def _write(path, documents):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join("\n".join(document) for document in documents), encoding="utf-8")
    return str(path)


def _decoded(corpus, splits=("train", "heldout")):
    """The corpus's documents as lists of decoded sentences."""
    tokenizer = load_tokenizer(corpus.folder)
    return [
        [
            tokenizer.decode(shard.tokens[shard.sentences[s] : shard.sentences[s + 1]])
            for s in range(shard.documents[d], shard.documents[d + 1])
        ]
        for split in splits
        for shard in corpus.split(split).shards
        for d in range(len(shard.documents) - 1)
    ]


def _plain(document):
    return [sentence.lower().replace(".", " .") for sentence in document]


def _bytes(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def config(tmp_path):
    text = _write(tmp_path / "text/a.txt", _documents(200))
    return PrepareConfig(input=(text,), output=tmp_path / "corpus", vocab_size=200, processes=1)


def _with(config, **changes):
    return PrepareConfig(**{**vars(config), **changes})


def test_a_corpus_holds_the_text(config, capsys):
    corpus = prepare(config)
    documents = _documents(200)
    assert sorted(_decoded(corpus)) == sorted(map(_plain, documents))
    heldout = corpus.split("heldout").documents
    assert 0 < heldout < 20
    reopened = shards.open_corpus(config.output, verify=True)
    assert reopened.metadata == corpus.metadata
    assert reopened.metadata["splits"]["train"]["sentences"] == corpus.split("train").sentences
    assert reopened.vocab_size == load_tokenizer(config.output).vocab_size
    assert reopened.special_ids == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    names = {path.name.split(".")[0] for path in config.output.iterdir()}
    expected = {"corpus", "report", "vocab", "tokenizer_config", "train-00000", "heldout-00000"}
    assert names == expected

    shown = capsys.readouterr().out
    written = (config.output / "report.md").read_text(encoding="utf-8")
    for text in (shown, written):
        assert f"200, of which {heldout} held out" in text
        command = f"python run_pretrain.py tiny --corpus {config.output} --model.vocab-size 200"
        assert re.search(re.escape(command) + r"\n", text)


def test_heldout_unigram_entropy(config):
    corpus = prepare(_with(config, heldout_fraction=0.3))
    tokens = np.concatenate([shard.tokens for shard in corpus.split("heldout").shards])
    share = np.unique(tokens, return_counts=True)[1] / len(tokens)
    expected = -np.sum(share * np.log(share))
    assert corpus.metadata["heldout_unigram_entropy"] == pytest.approx(expected)


def test_the_heldout_split_is_stable(config, tmp_path):
    first = prepare(config)
    more = _write(tmp_path / "more.txt", _documents(50, seed=1))
    second = prepare(
        _with(
            config,
            input=(more, *config.input),
            output=tmp_path / "second",
            vocab_size=None,
            vocab=config.output / "vocab.txt",
            max_shard_tokens=1000,
        )
    )
    for split in ("train", "heldout"):
        of_first = [d for d in _decoded(second, [split]) if d[0].startswith("story 0")]
        assert of_first == _decoded(first, [split])


@pytest.mark.parametrize("chunk_bytes", [64, 1000])
def test_documents_over_several_chunks(config, tmp_path, monkeypatch, chunk_bytes):
    documents = _documents(200)
    repeated = _write(tmp_path / "b.txt", [["Something before."], *documents[:100]])
    config = _with(config, input=(*config.input, repeated), heldout_fraction=0.0)
    monkeypatch.setattr(sources, "CHUNK_BYTES", chunk_bytes)
    corpus = prepare(config)
    # The copies are cut elsewhere than the originals and are found all the same.
    assert corpus.metadata["duplicates"] == 100
    assert _decoded(corpus) == [*map(_plain, documents), ["something before ."]]


def test_duplicates_are_equal_after_cleaning_only(tmp_path):
    same = [["A house.", "A tree."], [" A  house.\u200b", "A\ttree. "]]
    others = [["A tree.", "A house."], ["A house."], ["A house.", "A tree.", "A tree."]]
    text = _write(tmp_path / "a.txt", same + others)
    corpus = prepare(
        PrepareConfig((text,), tmp_path / "corpus", vocab_size=150, heldout_fraction=0, processes=1)
    )
    assert corpus.metadata["duplicates"] == 1
    assert corpus.split("train").documents == 4


@pytest.mark.parametrize("heldout_fraction", [0.0, 0.99])
@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_a_document_beyond_the_limit_goes_on_as_another(
    config, tmp_path, monkeypatch, suffix, heldout_fraction
):
    monkeypatch.setattr(sources, "CHUNK_BYTES", 500)
    monkeypatch.setattr(writing, "MAX_DOCUMENT_TOKENS", 300)
    document = [sentence for document in _documents(100) for sentence in document]
    path = Path(_write(tmp_path / f"b{suffix}", [document]))
    if suffix == ".jsonl":  # a record is one piece however long it is; the second is a duplicate
        path.write_text(2 * (json.dumps({"text": "\n".join(document)}) + "\n"))
    corpus = prepare(_with(config, input=(str(path),), heldout_fraction=heldout_fraction))
    (split,) = (split for split in ("train", "heldout") if corpus.split(split).documents)
    found = _decoded(corpus, [split])
    assert [sentence for part in found for sentence in part] == _plain(document)
    lengths = [len(" ".join(part).split()) for part in found]
    assert len(lengths) > 5
    assert max(lengths) < 500
    (warning,) = (line for line in _warnings(corpus) if "document(s) of more than" in line)
    assert "1 document(s)" in warning


def test_sentences_beyond_the_limit_are_cut(config, monkeypatch):
    monkeypatch.setattr(encode, "MAX_SENTENCE_TOKENS", 4)
    _write(Path(config.input[0]), [["a a a a a a a a a", "\u0301", "the the the the"], ["a the"]])
    corpus = prepare(_with(config, heldout_fraction=0.0))
    assert _decoded(corpus) == [["a a a a", "a a a a", "a", "the the the the"], ["a the"]]


def test_the_result_does_not_depend_on_processes(config, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "CHUNK_BYTES", 3000)
    monkeypatch.chdir(tmp_path)
    folders = []
    for processes in (1, 3):
        folder = tmp_path / str(processes)
        folder.mkdir()
        monkeypatch.chdir(folder)
        prepare(_with(config, output=Path("corpus"), processes=processes, max_shard_tokens=5000))
        folders.append(folder / "corpus")
    assert _bytes(folders[0]) == _bytes(folders[1])


COMMAND = [
    *(sys.executable, "-m", "data_pipeline.prepare", "--input", "../a.txt", "--output", "corpus"),
    *("--vocab-size", "200", "--max-shard-tokens", "6000", "--processes", "2"),
]
RUN = {
    "env": {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    "stderr": subprocess.PIPE,
    "stdout": subprocess.PIPE,
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A folder with the text of the command, and the bytes that it makes when left alone."""
    folder = tmp_path_factory.mktemp("interruptions")
    _write(folder / "a.txt", _documents(7_000))  # a chunk and a half
    (folder / "whole").mkdir()
    subprocess.run(COMMAND, cwd=folder / "whole", check=True, **RUN)
    return folder, _bytes(folder / "whole/corpus")


@pytest.mark.parametrize(
    ("stop", "moments"), [(signal.SIGKILL, (2, 50)), (signal.SIGTERM, (2,)), (signal.SIGINT, (2,))]
)
def test_an_interrupted_run_goes_on_to_the_same_bytes(uninterrupted, stop, moments):
    folder, expected = uninterrupted
    broken = folder / stop.name
    broken.mkdir()
    for moment in moments:
        with subprocess.Popen(COMMAND, cwd=broken, **RUN) as process:
            waited = broken / f"corpus/train-{moment:05d}.tokens.npy"
            deadline = time.monotonic() + 60
            while not waited.exists() and time.monotonic() < deadline:
                time.sleep(0.002)
            process.send_signal(stop)
            errors = process.communicate()[1].decode()
        assert not (broken / "corpus/corpus.json").exists()
        if stop == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL
        else:
            assert process.returncode == 130
            assert errors.splitlines()[-1].startswith("error: interrupted; the same command")
            assert "Traceback" not in errors
    kept = (broken / "corpus/train-00001.tokens.npy").stat().st_mtime_ns
    again = subprocess.run(COMMAND, cwd=broken, check=True, **RUN)
    assert b"training the tokenizer" not in again.stderr
    assert (broken / "corpus/train-00001.tokens.npy").stat().st_mtime_ns == kept
    assert _bytes(broken / "corpus") == expected


def test_a_finished_corpus_is_left_alone(config, capsys):
    prepare(config)
    before = {path: path.stat().st_mtime_ns for path in config.output.iterdir()}
    capsys.readouterr()
    prepare(_with(config, processes=2))
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"other settings .*language: 'en' → 'zh'"):
        prepare(_with(config, language="zh"))
    assert before == {path: path.stat().st_mtime_ns for path in config.output.iterdir()}


@pytest.mark.parametrize(
    ("documents", "changes", "options"),
    [
        (_documents(200), {"heldout_fraction": 0.0}, "--evaluation-examples 0"),
        ([["A house.", "A tree."]], {}, "--data.pairs doc_sentences --evaluation-examples 0"),
        ([[s] for d in _documents(99) for s in d], {}, "--evaluation-examples 0"),
    ],
)
def test_the_next_command_has_the_options_it_needs(config, tmp_path, documents, changes, options):
    _write(Path(config.input[0]), documents)
    changes = {"output": tmp_path / "a corpus", "vocab_size": 200, **changes}
    corpus = prepare(_with(config, **changes))
    expected = f"--corpus '{corpus.folder}' --model.vocab-size {corpus.vocab_size} {options}\n"
    assert expected in (corpus.folder / "report.md").read_text(encoding="utf-8")


def test_a_finished_corpus_of_other_input_is_refused(config, tmp_path, capsys):
    vocab = tmp_path / "given.txt"
    vocab.write_text("\n".join([*SPECIAL_PIECES.values(), "the", "house", "##s"]) + "\n")
    config = _with(config, vocab=vocab, vocab_size=None)
    prepare(config)
    vocab.write_text(vocab.read_text() + "a\n")
    with pytest.raises(DataError, match=r"given.txt changed since .*--output or delete"):
        prepare(config)
    vocab.unlink()
    _write(Path(config.input[0]), _documents(30))
    with pytest.raises(DataError, match=r"a.txt changed since .*--output or delete"):
        prepare(config)
    Path(config.input[0]).unlink()
    capsys.readouterr()
    prepare(config)
    assert "nothing to do" in capsys.readouterr().out
    metadata = json.loads((config.output / "corpus.json").read_text())
    del metadata["made_by"]
    (config.output / "corpus.json").write_text(json.dumps(metadata))
    with pytest.raises(DataError, match="does not say how it was made"):
        prepare(config)


def test_an_output_inside_the_input_is_no_input(config, tmp_path, monkeypatch, capsys):
    config = _with(config, input=(str(tmp_path / "text"),), output=tmp_path / "text/corpus")
    with monkeypatch.context() as patch:
        _interrupt_after(patch, 0, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            prepare(config)
    assert sorted(_decoded(prepare(config))) == sorted(map(_plain, _documents(200)))
    prepare(config)
    assert "nothing to do" in capsys.readouterr().out


def test_the_embedded_corpus_stays_valid(config, monkeypatch, capsys):
    monkeypatch.setattr(embedded, "embedded_documents", lambda map_files: iter(["A.\nB.", "C."]))
    config = _with(config, input=("embedded",))
    prepare(config)
    monkeypatch.setattr(sys, "version", "another")
    prepare(config)
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("megabytes", [0.001, 0.1, 1e9])
def test_the_tokenizer_always_sees_text(config, monkeypatch, megabytes):
    monkeypatch.setattr(sources, "CHUNK_BYTES", 10_000)
    tokenizer = load_tokenizer(prepare(_with(config, tokenizer_sample_mb=megabytes)).folder)
    assert tokenizer.decode(tokenizer.encode("house")) == "house"
    assert len(tokenizer.encode("horse river")) < 8


def _interrupt_after(monkeypatch, commits, error):
    commit = writing.CorpusWriter.commit

    def failing(self):
        if sum(map(len, self.progress["shards"].values())) >= commits:
            raise error
        commit(self)

    monkeypatch.setattr(writing.CorpusWriter, "commit", failing)


def test_an_unfinished_corpus_is_refused_to_other_settings(config, monkeypatch):
    with monkeypatch.context() as patch:
        _interrupt_after(patch, 0, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            prepare(config)
    with pytest.raises(DataError, match=r"unfinished preparation .*lowercase: True → False"):
        prepare(_with(config, lowercase=False))
    os.utime(config.input[0], (1, 1))
    with pytest.raises(DataError, match=r"unfinished preparation .*\(input: "):
        prepare(config)


def test_a_full_disk_keeps_what_is_complete(config, tmp_path, monkeypatch):
    config = _with(config, max_shard_tokens=500)
    with monkeypatch.context() as patch:
        _interrupt_after(patch, 4, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(DataError, match=r"disk of .* is full; .*repeat the same command"):
            prepare(config)
    kept = {p: p.stat().st_mtime_ns for p in config.output.glob("train-0000[01].*.npy")}
    assert len(kept) == 6
    assert not list(config.output.glob("*.tmp"))
    prepare(config)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


def test_given_tokenizers(config, tmp_path):
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join([*SPECIAL_PIECES.values(), "the", "house", "##s"]) + "\n")
    corpus = prepare(_with(config, vocab=vocab, vocab_size=None))
    assert corpus.vocab_size == 8
    expected = hashlib.sha256(vocab.read_bytes()).hexdigest()
    assert corpus.metadata["tokenizer"]["fingerprint"] == expected
    assert "of the tokens are unknown" in (config.output / "report.md").read_text("utf-8")

    trained = prepare(
        _with(config, tokenizer="sentencepiece-bpe", vocab_size=400, output=tmp_path / "bpe")
    )
    model = tmp_path / "bpe/sentencepiece.model"
    given = prepare(_with(config, model=model, vocab_size=None, output=tmp_path / "given"))
    for name in ("tokens", "sentences", "documents"):
        file = f"train-00000.{name}.npy"
        assert (trained.folder / file).read_bytes() == (given.folder / file).read_bytes()


def _warnings(corpus):
    report = (corpus.folder / "report.md").read_text(encoding="utf-8")
    return [line for line in report.splitlines() if "WARNING" in line]


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([[s for d in _documents(200) for s in d]], "there is only one document"),
        (
            [["A house."], [s for d in _documents(200) for s in d]],
            "one document holds more than half of all tokens",
        ),
        ([[s] for d in _documents(200) for s in d], "of the documents have only one sentence"),
        (_documents(5), "document(s), too few to evaluate"),
        (_documents(200), "tokens are little to learn from"),
        (_documents(200), "not the 5,000 asked for"),
    ],
)
def test_warnings(config, documents, message):
    _write(Path(config.input[0]), documents)
    corpus = prepare(_with(config, vocab_size=5000))
    assert any(message in line for line in _warnings(corpus)), _warnings(corpus)


def test_chinese_json_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    documents = [f"第{i}个故事。他去了哪里？\n不知道；也许回家了。" for i in range(40)]
    path.write_text("\n".join(json.dumps({"body": d}) for d in documents), encoding="utf-8")
    corpus = prepare(
        PrepareConfig(
            input=(str(path),),
            output=tmp_path / "corpus",
            language="zh",
            text_field="body",
            vocab_size=200,
            processes=1,
        )
    )
    found = _decoded(corpus)
    assert len(found) == 40
    assert all(len(document) == 4 for document in found)
    assert sorted("".join(d).replace(" ", "") for d in found) == sorted(
        d.replace("\n", "") for d in documents
    )


def test_verify(config, capsys):
    prepare(config)
    terminate = signal.getsignal(signal.SIGTERM)
    main(["--verify", str(config.output)])
    signal.signal(signal.SIGTERM, terminate)
    assert f"{config.output} is intact" in capsys.readouterr().out


def test_sentences_and_documents_without_tokens_vanish(config):
    accents = "\u0301 \u0300"  # an uncased tokenizer strips accents, here everything
    text = [["A house.", accents, "A tree."], [accents], ["A river."]]
    _write(Path(config.input[0]), text)
    corpus = prepare(_with(config, heldout_fraction=0.0))
    assert _decoded(corpus) == [["a house .", "a tree ."], ["a river ."]]
    assert corpus.metadata["splits"]["train"]["sentences"] == 3
