"""Reads `pytorch_model.bin` without torch and without running code from the file.

torch.save writes a pickle, whose instructions may call any function. Here a pickle may name only
what a dictionary of tensors needs; anything else is refused before it is called. Two formats are
read: the zip file of torch since 1.6, and the earlier stream of pickles.
"""

import io
import math
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple

import numpy as np

from bert_jax.errors import UserError

# Storage classes of torch -> numpy types; numpy lacks bfloat16, whose bits are widened below.
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


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or not all(type(n) is int and n >= 0 for n in numbers):
        raise pickle.UnpicklingError("a tensor in it is malformed")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _Unpickler(pickle._Unpickler):
    """Python's pickle machine, with only the instructions that a dictionary of tensors needs.

    Others could set attributes, or hash structures nested so deeply that the process crashes.
    """

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return lambda: {}
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, *_: data
        if module == "torch" and name in _STORAGES:
            return name
        raise UserError(
            f"it wants to load {module}.{name}, which may run code; only tensors are read. Save "
            "the model as safetensors"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, key, _, size = pid[:5]
        if not (isinstance(kind, str) and isinstance(key, str) and type(size) is int):
            raise pickle.UnpicklingError("a storage in it is malformed")
        if kind not in _STORAGES:
            raise pickle.UnpicklingError(f"a storage in it is of the unknown kind {kind}")
        return _Storage(key, kind, size)

    def _set(self, items: list[Any]) -> None:
        if not all(isinstance(key, str) for key in items[::2]):
            raise pickle.UnpicklingError("a dictionary in it has keys other than text")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _set_items(self) -> None:
        self._set(self.pop_mark())

    def _leave_attributes(self) -> None:
        self.stack.pop()  # `_metadata` of a state dict: versions of its modules

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("it has an instruction that no dictionary of tensors needs")

    dispatch: ClassVar[Any] = dict.fromkeys(range(256), _refuse) | {
        opcode[0]: pickle._Unpickler.dispatch[opcode[0]]
        for opcode in (
            pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK,
            pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE,
            pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT,
            pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINSTRING, pickle.SHORT_BINSTRING,
            pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3,
            pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT,
            pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BINPERSID,
            pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE, pickle.BINGET, pickle.LONG_BINGET,
        )
    } | {
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.BUILD[0]: _leave_attributes,
    }  # fmt: skip


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict that torch.save wrote, in their own types.

    bfloat16 becomes float32, which is exact.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                state, read = _read_zip(archive)
                return _arrays(state, read)
        with path.open("rb") as file:
            state, storages = _read_legacy(file)
        return _arrays(state, lambda storage: storages[storage.key])
    except UserError as error:
        raise UserError(f"{path} is refused: {error}") from None
    except (
        pickle.UnpicklingError, zipfile.BadZipFile, EOFError, OSError, KeyError, IndexError,
        ValueError, TypeError, AttributeError, OverflowError, MemoryError, RuntimeError,
        AssertionError, struct.error,
    ) as error:  # fmt: skip
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path} is damaged or not a state dict of torch ({reason}); copy it again"
        ) from None


def _read_zip(archive: zipfile.ZipFile) -> tuple[Any, Callable[[_Storage], bytes]]:
    """The state dict, and a function that reads one storage."""
    (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
    folder = pickled.removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist():
        order = _read_stored(archive, f"{folder}byteorder")
        if order != b"little":
            raise pickle.UnpicklingError(f"its byte order is {order!r}, not little")
    state = _Unpickler(io.BytesIO(_read_stored(archive, pickled))).load()
    return state, lambda storage: _read_stored(archive, f"{folder}data/{storage.key}")


def _read_stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """An entry of the zip file, which must be uncompressed, and so no larger than the file."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise pickle.UnpicklingError(f"{name} in it is compressed, which torch never does")
    return archive.read(name)


def _read_legacy(file: IO[bytes]) -> tuple[Any, dict[str, bytes]]:
    magic, protocol, _, state = (_Unpickler(file).load() for _ in range(4))
    if (magic, protocol) != (_LEGACY_MAGIC, _LEGACY_PROTOCOL):
        raise pickle.UnpicklingError("it does not begin like a file of torch")
    kinds = {tensor.storage.key: tensor.storage.kind for tensor in state.values()}
    storages = {}
    for key in _Unpickler(file).load():
        if not isinstance(key, str):
            raise pickle.UnpicklingError("a storage in it has no name")
        size = int.from_bytes(file.read(8), "little")
        storages[key] = file.read(size * np.dtype(_STORAGES[kinds[key]]).itemsize)
    return state, storages


def _arrays(state: Any, read: Callable[[_Storage], bytes]) -> dict[str, np.ndarray]:
    """The tensors as views of their storages, each of which is read once."""
    if not isinstance(state, dict):
        raise pickle.UnpicklingError(f"it holds a {type(state).__name__}, not a dictionary")
    storages: dict[_Storage, np.ndarray] = {}
    arrays = {}
    for name, tensor in state.items():
        if not isinstance(tensor, _Tensor):
            raise pickle.UnpicklingError(f"its entry {name!r} is not a tensor")
        if tensor.storage not in storages:
            storages[tensor.storage] = _flat(tensor.storage, read(tensor.storage))
        arrays[name] = _view(name, tensor, storages[tensor.storage])
    return arrays


def _flat(storage: _Storage, data: bytes) -> np.ndarray:
    flat = np.frombuffer(data, _STORAGES[storage.kind])
    if flat.size != storage.size:
        raise pickle.UnpicklingError(f"its storage {storage.key} is cut off")
    if storage.kind == "BFloat16Storage":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat


def _view(name: str, tensor: _Tensor, flat: np.ndarray) -> np.ndarray:
    _, offset, shape, strides = tensor
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if not math.prod(shape):
        return np.zeros(shape, flat.dtype)
    if last >= flat.size or math.prod(shape) > flat.size:
        raise pickle.UnpicklingError(f"{name} is larger than its storage")
    return np.lib.stride_tricks.as_strided(
        flat[offset:], shape, [s * flat.itemsize for s in strides], writeable=False
    )
