"""Reads `pytorch_model.bin` without torch and without running anything that the file asks for.

torch.save writes a pickle, whose instructions may call any function. Here the pickle may name only
what a dictionary of tensors consists of; anything else is refused by its name before it is called.
Both forms are read: the zip file since torch 1.6 and the stream of pickles before it.
"""

import collections
import io
import math
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from bert_jax.errors import UserError

# Storage classes of torch -> numpy; bfloat16 has no numpy type, its bits are widened below.
_STORAGES = {
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "DoubleStorage": "<f8",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001


class _Storage(NamedTuple):
    key: str
    kind: str
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Named:
    """Stands for a function or class of torch; unlike one, it has nothing that a pickle can set."""

    __slots__ = ("call",)
    call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]):
        object.__setattr__(self, "call", call)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError(f"it sets the attribute {name}")

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or not all(type(n) is int and n >= 0 for n in numbers):
        raise pickle.UnpicklingError("a tensor in it is malformed")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Named(_tensor)
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _Named(lambda data, *_: data)
        if module == "torch" and name in _STORAGES:
            return name
        raise UserError(
            f"it wants to load {module}.{name}, which may run code; only tensors are read. Save "
            "the model as safetensors"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, key, _, size = pid[:5]
        if kind not in _STORAGES or type(size) is not int:
            raise pickle.UnpicklingError("a storage in it is malformed")
        return _Storage(str(key), kind, size)


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict that torch.save wrote.

    bfloat16 comes back as float32, which is exact; all else in its own type.

    Raises:
      UserError: the file is damaged, holds anything but named tensors, or wants to run code.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                state, storages = _read_zip(archive)
        else:
            with path.open("rb") as file:
                state, storages = _read_legacy(file)
        if not isinstance(state, dict):
            raise pickle.UnpicklingError(f"it holds a {type(state).__name__}, no dictionary")
        return {name: _array(name, tensor, storages) for name, tensor in state.items()}
    except UserError as error:
        raise UserError(f"{path} is refused: {error}") from None
    except (
        pickle.UnpicklingError, zipfile.BadZipFile, EOFError, OSError, KeyError, IndexError,
        ValueError, TypeError, AttributeError, OverflowError, MemoryError, NotImplementedError,
    ) as error:  # fmt: skip
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path} is damaged or no state dict of torch ({reason}); copy it again"
        ) from None


def _read_zip(archive: zipfile.ZipFile) -> tuple[Any, dict[str, bytes]]:
    (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
    folder = pickled.removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist():
        order = archive.read(f"{folder}byteorder")
        if order != b"little":
            raise pickle.UnpicklingError(f"its byte order is {order!r}, not little")
    state = _Unpickler(io.BytesIO(archive.read(pickled))).load()
    prefix = f"{folder}data/"
    return state, {
        name.removeprefix(prefix): archive.read(name)
        for name in archive.namelist()
        if name.startswith(prefix)
    }


def _read_legacy(file: IO[bytes]) -> tuple[Any, dict[str, bytes]]:
    magic, protocol, _, state = (_Unpickler(file).load() for _ in range(4))
    if (magic, protocol) != (_LEGACY_MAGIC, _LEGACY_PROTOCOL):
        raise pickle.UnpicklingError("it does not begin as torch's files do")
    kinds = {tensor.storage.key: tensor.storage.kind for tensor in state.values()}
    storages = {}
    for key in _Unpickler(file).load():
        size = int.from_bytes(file.read(8), "little")
        storages[key] = file.read(size * np.dtype(_STORAGES[kinds[key]]).itemsize)
    return state, storages


def _array(name: Any, tensor: Any, storages: dict[str, bytes]) -> np.ndarray:
    if not isinstance(name, str) or not isinstance(tensor, _Tensor):
        raise pickle.UnpicklingError(f"its entry {name!r} is no tensor")
    storage, shape, strides = tensor.storage, tensor.shape, tensor.strides
    flat = np.frombuffer(storages[storage.key], _STORAGES[storage.kind])
    last = tensor.offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if math.prod(shape) and last >= flat.size:
        raise pickle.UnpicklingError(f"{name} is cut off")
    if storage.kind == "BFloat16Storage":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    if not math.prod(shape):
        return np.zeros(shape, flat.dtype)
    itemsize = flat.dtype.itemsize
    return np.lib.stride_tricks.as_strided(
        flat[tensor.offset :], shape, [s * itemsize for s in strides]
    ).copy()
