"""The names in a folder, by one system call instead of one lock hand-over per name.

os.listdir gives the interpreter's lock up and takes it back for every single name (CPython's readdir loop). With the
event loop busy, each of these is a wait and two context switches: they were a quarter of a chunk's CPU. getdents64(2)
fills a buffer of names at once.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Callable

_ENTRY = struct.Struct("=QqHB")  # linux_dirent64: inode, offset, length of the record, type; then the name and a NUL
_BUFFER_BYTES = 64 * 1024
_local = threading.local()


def _wrapper() -> Callable[..., int] | None:
    """glibc 2.30 and later, and musl, have it."""
    try:
        found = ctypes.CDLL(None, use_errno=True).getdents64
    except AttributeError:
        return None
    found.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    found.restype = ctypes.c_ssize_t
    return found


_getdents64 = _wrapper()


def names(folder: int) -> list[str]:
    """Names in the folder that the descriptor stands for, without `.` and `..`, in no order; read from its position,
    which is the start before and after. Raises OSError."""
    if _getdents64 is None:
        return os.listdir(folder)
    buffer = getattr(_local, "buffer", None)
    if buffer is None:
        buffer = _local.buffer = ctypes.create_string_buffer(_BUFFER_BYTES)
    found: list[str] = []
    while (filled := _getdents64(folder, buffer, _BUFFER_BYTES)) > 0:
        _parse(ctypes.string_at(buffer, filled), found)
    if filled < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.lseek(folder, 0, os.SEEK_SET)  # as os.listdir leaves it: the next one reads from the start
    return found


def _parse(data: bytes, found: list[str]) -> None:
    at = 0
    while at < len(data):
        _, _, length, _ = _ENTRY.unpack_from(data, at)
        name = data[at + _ENTRY.size : at + length].split(b"\0", 1)[0]
        if name not in (b".", b".."):
            found.append(os.fsdecode(name))
        at += length
