"""The speaker encoder's weights out of resemblyzer's pretrained.pt, without torch.

The file is in torch.save's old form: pickles of a magic number, a protocol version, the writing system and the state,
whose tensors name storages; then a pickle of the storages' keys, and in their order the number of elements (int64) and
the elements of each. The optimiser's state, two thirds of the file, is skipped.
"""

from __future__ import annotations

import collections
import math
import os
import pickle
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cosygate.engine.models import ModelFile, ModelPackage

GE2E = ModelPackage(
    "resemblyzer",
    "resemblyzer==0.1.4",
    {
        "encoder": ModelFile(
            "pretrained.pt",
            17_090_379,
            "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
        )
    },
)
Floats = NDArray[np.float32]

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_FLOAT = np.dtype("<f4")


def read_weights(file: BinaryIO) -> dict[str, Floats]:
    """The model's arrays by name. Raises pickle.UnpicklingError when the file is anything else or names other code."""
    if _Unpickler(file).load() != _MAGIC or _Unpickler(file).load() != _PROTOCOL:
        raise pickle.UnpicklingError("not a file of torch.save's old form")
    _Unpickler(file).load()  # the writing system, always little-endian
    tensors: dict[str, _Tensor] = _Unpickler(file).load()["model_state"]
    wanted = {tensor.storage for tensor in tensors.values()}
    storages: dict[str, Floats] = {}
    for key in _Unpickler(file).load():
        size = int.from_bytes(file.read(8), "little") * _FLOAT.itemsize
        if key in wanted:
            storages[key] = np.frombuffer(file.read(size), _FLOAT)
        else:
            file.seek(size, os.SEEK_CUR)
    return {name: tensor.cut(storages) for name, tensor in tensors.items()}


@dataclass(frozen=True, slots=True)
class _Tensor:
    """Where a tensor lies: so many elements into a storage, row by row (these all do)."""

    storage: str
    offset: int
    shape: tuple[int, ...]

    def cut(self, storages: dict[str, Floats]) -> Floats:
        return storages[self.storage][self.offset : self.offset + math.prod(self.shape)].reshape(self.shape)


def _tensor(storage: str, offset: int, shape: tuple[int, ...], *_: Any) -> _Tensor:
    """In the place of torch._utils._rebuild_tensor_v2."""
    return _Tensor(storage, offset, shape)


class _Unpickler(pickle.Unpickler):
    _KNOWN: dict[tuple[str, str], Any] = {  # noqa: RUF012
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch", "FloatStorage"): _FLOAT,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"the weights may not name {module}.{name}") from None

    def persistent_load(self, pid: Any) -> str:
        """A storage: ("storage", type, key, device, elements, view)."""
        return str(pid[2])
