"""The metadata of an ONNX file, without a library: sherpa-onnx ends the process when what it needs is not there.

An ONNX file is one protobuf message, ModelProto (onnx.proto): field 7 is the graph with all weights, which is skipped;
field 14, repeated, is an entry of the metadata with key (1) and value (2). A file that was cut off is noticed, because
the graph says how long it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import IO

_GRAPH, _METADATA = 7, 14  # fields of ModelProto
_KEY, _VALUE = 1, 2  # fields of StringStringEntryProto
_VARINT, _BYTES = 0, 2  # wire types
_FIXED = {1: 8, 5: 4}  # wire types, and their bytes
_FIELDS_MAX = 100_000  # of one message
_METADATA_MAX = 1 << 24  # bytes of all entries: a model of punctuation has 272,727 tokens among them


def metadata(path: Path) -> dict[str, str]:
    """All entries by key. Raises ValueError, which says what is wrong with the file, and OSError."""
    entries: dict[str, str] = {}
    room = _METADATA_MAX
    has_graph = False
    with path.open("rb") as file:
        for field, length in _fields(file, os.fstat(file.fileno()).st_size):
            has_graph |= field == _GRAPH
            if field == _METADATA:
                room -= length
                if room < 0:
                    raise ValueError("its metadata is too long")
                key, value = _entry(file.read(length))
                entries[key] = value
    if not has_graph:
        raise ValueError("it is not an ONNX model")
    return entries


def _entry(message: bytes) -> tuple[str, str]:
    parts: dict[int, str] = {}
    file = BytesIO(message)
    for field, length in _fields(file, len(message)):
        parts[field] = file.read(length).decode("utf-8", "replace")
    return parts.get(_KEY, ""), parts.get(_VALUE, "")


def _fields(file: IO[bytes], size: int) -> Iterator[tuple[int, int]]:
    """The number and the length of each field that has one; the file is at its beginning then, and goes on at its end
    whatever was read of it. Raises ValueError."""
    at = 0
    for _ in range(_FIELDS_MAX):
        if at == size:
            return
        file.seek(at)
        tag = _varint(file)
        field, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            _varint(file)
            at = file.tell()
            continue
        length = _varint(file) if wire == _BYTES else _FIXED.get(wire)
        if length is None:
            raise ValueError("it is not an ONNX model")
        at = file.tell() + length
        if at > size:
            raise ValueError("it is cut off, or not an ONNX model")
        if wire == _BYTES:
            yield field, length
    raise ValueError("it has too many parts for an ONNX model")


def _varint(file: IO[bytes]) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("it is cut off, or not an ONNX model")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("it is not an ONNX model")
