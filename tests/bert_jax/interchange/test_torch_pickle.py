"""Files of torch.save that would run code, or are damaged (whole ones: tests/parity)."""

import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from bert_jax.errors import UserError
from bert_jax.interchange.torch_pickle import read_torch_file


class RunsCode:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def write(path, payload: bytes, zipped: bool):
    if not zipped:
        path.write_bytes(payload)
        return
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/byteorder", "little")


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_not_run(tmp_path, zipped):
    marker, path = tmp_path / "it ran", tmp_path / "pytorch_model.bin"
    write(path, pickle.dumps({"weight": RunsCode(marker)}), zipped)
    with pytest.raises(UserError, match=r"refused: it wants to load (posix|nt)\.mkdir.*run code"):
        read_torch_file(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "named", ["builtins.eval", "torch.load", "torch._utils._rebuild_tensor", "numpy.load"]
)
def test_everything_but_tensors_is_refused_by_name(tmp_path, named):
    module, name = named.rsplit(".", 1)
    path = tmp_path / "pytorch_model.bin"
    write(path, b"c" + f"{module}\n{name}\n".encode() + b"(tR.", zipped=True)
    with pytest.raises(UserError, match=f"wants to load {named}"):
        read_torch_file(path)


@pytest.mark.parametrize(
    "payload",
    [
        # BUILD on the stand-in: attributes of what is called later
        b"ctorch._utils\n_rebuild_tensor_v2\n(dNX\x04\x00\x00\x00callI1\ns\x86b.",
        # a dictionary of numbers, a list, an unknown persistent id, nothing, noise
        pickle.dumps({"a": 1}),
        pickle.dumps([1, 2]),
        b"(U\x03abctQ.",
        b"",
        b"\x80\x02}q\x00(X\x01",
        b"ctorch._utils\n_rebuild_tensor_v2\n(I1\nI2\n(I3\nt(I4\nttR.",
        b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02(K\x03t(K\x04ttR.",
        # tuples so deep, or so often shared, that taking their hash would never come back
        b"})" + b"\x85" * 200_000 + b"K\x01s.",
        b"}(K\x01" + b"q\x00h\x00\x86" * 100 + b"K\x01u.",
        b"(" + b")" + b"\x85" * 200_000 + b"U\x01aNK\x01tQ.",
        b"\x8f(" + b")" + b"\x85" * 200_000 + b"\x90.",
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_anything_else_is_one_line(tmp_path, payload, zipped):
    path = tmp_path / "pytorch_model.bin"
    write(path, payload, zipped)
    with pytest.raises(UserError, match=r" is damaged or ") as caught:
        read_torch_file(path)
    assert "\n" not in str(caught.value)


def saved(path, storages, tensors, compression=zipfile.ZIP_STORED):
    """A file as torch writes it, by hand: name -> (key, size of the storage, shape, strides)."""

    def text(value):
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def numbers(values):
        return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"

    pickled = b"\x80\x02}("
    for name, (key, size, shape, strides) in tensors.items():
        storage = (
            b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu")
            + b"J" + struct.pack("<i", size) + b"tQ"
        )  # fmt: skip
        pickled += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n("
        pickled += storage + b"K\x00" + numbers(shape) + numbers(strides)
        pickled += b"\x89ccollections\nOrderedDict\n)RtR"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled + b"u.", zipfile.ZIP_STORED)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
    return path


FOUR = np.arange(4, dtype="<f4").tobytes()


def test_two_tensors_of_one_storage(tmp_path):
    tensors = {"a": ("0", 4, (2, 2), (2, 1)), "turned": ("0", 4, (2, 2), (1, 2))}
    found = read_torch_file(saved(tmp_path / "file", {"0": FOUR}, tensors))
    np.testing.assert_array_equal(found["a"], [[0, 1], [2, 3]])
    np.testing.assert_array_equal(found["turned"], [[0, 2], [1, 3]])


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (("0", 4, (64_000_000,), (0,)), "larger than its storage"),
        (("0", 4, (5,), (1,)), "larger than its storage"),
        (("0", 5, (4,), (1,)), "storage 0 is cut off"),
        (("0", 3, (3,), (1,)), "storage 0 is cut off"),
        (("1", 4, (4,), (1,)), "archive/data/1"),
    ],
)
def test_a_tensor_is_no_larger_than_what_is_stored(tmp_path, tensor, message):
    path = saved(tmp_path / "file", {"0": FOUR}, {"a": tensor})
    with pytest.raises(UserError, match=message):
        read_torch_file(path)


def test_compressed_and_encrypted_entries_are_refused(tmp_path):
    tensors = {"a": ("0", 4, (4,), (1,))}
    path = saved(tmp_path / "file", {"0": FOUR}, tensors, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="archive/data/0 in it is compressed"):
        read_torch_file(path)
    path = saved(tmp_path / "file", {"0": FOUR}, tensors)
    data = bytearray(path.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(header)
        data[start + flags] |= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="encrypted"):
        read_torch_file(path)


def test_what_no_tensor_names_is_not_read(tmp_path):
    path = saved(tmp_path / "file", {"0": FOUR}, {"a": ("0", 4, (4,), (1,))})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data/1", b"not read")
    path.write_bytes(path.read_bytes().replace(b"not read", b"damaged!"))
    assert read_torch_file(path).keys() == {"a"}
