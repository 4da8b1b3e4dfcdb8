"""Files of torch.save that would run code, or are damaged (whole ones: tests/parity)."""

import os
import pickle
import zipfile

import pytest

from bert_jax.errors import UserError
from bert_jax.torch_pickle import read_torch_file


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
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_anything_else_is_one_line(tmp_path, payload, zipped):
    path = tmp_path / "pytorch_model.bin"
    write(path, payload, zipped)
    with pytest.raises(UserError, match=r"is damaged or no state dict") as caught:
        read_torch_file(path)
    assert "\n" not in str(caught.value)
