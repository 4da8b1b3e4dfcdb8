import gzip
import json

import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.text import sources
from data_pipeline.text.sources import (
    FileSource,
    TfdsSource,
    chunk_documents,
    find_files,
    text_chunks,
)


def _documents(source):
    """Documents of a whole source, joined over its chunks."""
    documents = [[]]
    for chunk in source.chunks():
        first, *others = chunk_documents(chunk)
        documents[-1] += first
        documents += others
        if chunk.ends_document:
            documents.append([])
    return [document for document in documents if document]


def _check(path, text_field="text"):
    return sum(FileSource(path, text_field).check())


@pytest.fixture(params=[1 << 20, 64, 1000], ids=lambda size: f"chunk{size}")
def _chunk_bytes(request, monkeypatch):
    monkeypatch.setattr(sources, "CHUNK_BYTES", request.param)


@pytest.mark.usefixtures("_chunk_bytes")
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n\n"])
@pytest.mark.parametrize("suffix", [".txt", ".txt.gz"])
def test_plain_text(tmp_path, newline, end, suffix):
    expected = [[f"paragraph {i} {j} 中文" for j in range(i % 4 + 1)] for i in range(40)]
    text = "\n" + "\n \t\n".join("\n".join(document) for document in expected) + end
    data = b"\xef\xbb\xbf" + text.replace("\n", newline).encode()
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    assert _documents(FileSource(path, "text")) == expected
    assert _check(path) == len(data) - 3


@pytest.mark.usefixtures("_chunk_bytes")
@pytest.mark.parametrize("suffix", [".jsonl", ".json.gz"])
def test_json_lines(tmp_path, suffix):
    expected = [[f"第 {i} one", "two\u2028still two"] for i in range(50)]
    lines = "\n".join(json.dumps({"body": "\n".join(lines), "id": 1}) for lines in expected)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(lines.encode()) if suffix.endswith("gz") else lines.encode())
    assert _documents(FileSource(path, "body")) == expected
    assert _check(path, "body") == len(lines.encode())


def test_json_lines_of_several_files_with_a_byte_order_mark_each(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(b'\xef\xbb\xbf{"text": "%s"}' % text for text in (b"one", b"two")))
    assert _documents(FileSource(path, "text")) == [["one"], ["two"]]
    assert _check(path)


def test_a_line_longer_than_a_chunk_is_cut_at_a_space_or_between_characters(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "CHUNK_BYTES", 100)
    path = tmp_path / "a.txt"
    path.write_text("word " * 200 + "语言" * 300, encoding="utf-8")
    chunks = list(FileSource(path, "text").chunks())
    assert max(len(chunk.data) for chunk in chunks) <= 200
    assert b"".join(chunk.data for chunk in chunks) == path.read_bytes()
    assert all("�" not in chunk.data.decode() for chunk in chunks)
    assert [chunk.ends_document for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert set(chunks[0].data.decode().split()) == {"word"}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"", "a.txt is empty"),
        ("a.txt", b"\xef\xbb\xbf \n\n\t\n", "a.txt is empty"),
        ("a.txt", b"\0\xe2\x80\x8b \n" * 40, "a.txt is empty or holds no text"),
        ("a.jsonl", b'{"text": " "}\n' * 9, "a.jsonl is empty or holds no text"),
        ("a.jsonl", b'{"text": "a"}\n' + b"[" * 200_000, "line 2 is not JSON"),
        ("a.txt", b"good\n" * 30 + b"caf\xe9\n", r"not UTF-8 text: see byte 153 \(0xe9\)"),
        ("a.txt", b"cut off \xe4\xbd", "not UTF-8 text: see byte 8"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": \n', "line 3 is not JSON"),
        (
            "a.jsonl",
            b'{"text": "a"}\n' * 20 + b'{"body": "a"}',
            "line 21 has no.*'text'.*body",
        ),
        ("a.jsonl", b'{"text": null}\n', "line 1 has no text"),
        ("a.jsonl", b'["text"]\n', "line 1 has no text.*list"),
        ("a.txt.gz", b"not gzip", "cannot read .*a.txt.gz"),
        ("a.txt.gz", gzip.compress(b"word " * 999, mtime=0)[:-20], "cannot read .*a.txt.gz"),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [1 << 20, 64])
def test_bad_files_are_refused(tmp_path, monkeypatch, name, data, message, chunk_bytes):
    monkeypatch.setattr(sources, "CHUNK_BYTES", chunk_bytes)
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        _check(path)


def test_find_files(tmp_path):
    names = ["b/z.txt", "b/c/y.jsonl.gz", "a.json", "b/x.txt.gz", "b/note.md", ".hidden/h.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def found(pattern):
        return [str(path.relative_to(tmp_path)) for path in find_files(str(tmp_path / pattern))]

    assert found("") == ["a.json", "b/c/y.jsonl.gz", "b/x.txt.gz", "b/z.txt"]
    assert found("b/*.txt") == ["b/z.txt"]
    assert found("**/*.gz") == ["b/c/y.jsonl.gz", "b/x.txt.gz"]
    assert found("b/note.md") == ["b/note.md"]  # named outright, any file is text
    (tmp_path / "none").mkdir()
    for pattern in ("none", "*.pdf", "missing.txt"):
        with pytest.raises(DataError, match=r"holds no|matches no file"):
            found(pattern)


def test_names_that_lead_nowhere_are_refused(tmp_path):
    (tmp_path / "broken.txt").symlink_to(tmp_path / "gone.txt")
    (found,) = find_files(str(tmp_path / "*.txt"))
    with pytest.raises(DataError, match=r"cannot read .*broken.txt: No such file"):
        FileSource(found, "text")
    with pytest.raises(DataError, match="matches no file"):
        find_files(str(tmp_path / ("x" * 5000)))


def test_text_chunks_keep_documents_whole(monkeypatch):
    monkeypatch.setattr(sources, "CHUNK_BYTES", 10)
    chunks = list(text_chunks(["a\n\n \nb\r\n\r\nc", "", "d" * 30, "e"]))
    assert all(chunk.ends_document for chunk in chunks)
    documents = [document for chunk in chunks for document in chunk_documents(chunk) if document]
    assert documents == [["a", "b", "c"], ["d" * 30], ["e"]]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorflow_datasets(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    class TinyNovels(tfds.core.GeneratorBasedBuilder):
        """Thirty documents."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict({"body": tfds.features.Text(), "id": np.int64})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i in range(30):
                yield i, {"body": f"Novel {i}.\n\nIts second paragraph.", "id": i}

    class TinyLatin(TinyNovels):
        """Three records, one of them not UTF-8."""

        def _generate_examples(self):
            for i, text in enumerate([b"good", b"caf\xe9", b"good"]):
                yield i, {"body": text, "id": i}

    class TinyProofs(TinyNovels):
        """Has another split only."""

        def _split_generators(self, dl_manager):
            return {"dev": self._generate_examples()}

    TinyNovels(data_dir=tmp_path).download_and_prepare()
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))

    source = TfdsSource("tfds:tiny_novels", "body")
    documents = _documents(source)
    assert sorted(documents) == sorted([f"Novel {i}.", "Its second paragraph."] for i in range(30))
    assert _documents(source) == documents, "the order is fixed"

    with pytest.raises(DataError, match=r"no feature 'text'.*body, id.*--text-field"):
        TfdsSource("tfds:tiny_novels", "text")
    with pytest.raises(DataError, match=r"tfds:no_such_novels.*catalog"):
        TfdsSource("tfds:no_such_novels", "text")
    with pytest.raises(DataError, match=r"'id' of tfds:tiny_novels is a Tensor"):
        TfdsSource("tfds:tiny_novels", "id")
    TfdsSource("tfds:tiny_novels", "body").download()
    with pytest.raises(DataError, match="tiny_proofs has the splits dev, not 'train'"):
        TfdsSource("tfds:tiny_proofs", "body").download()
    TinyLatin(data_dir=tmp_path).download_and_prepare()
    with pytest.raises(DataError, match=r"tiny_latin, record \d is not UTF-8 .*byte 3 \(0xe9\)"):
        _documents(TfdsSource("tfds:tiny_latin", "body"))
