"""What a child writes into its pipe: frames of one type byte, a length, and that many bytes.

INFO once, PCM any number of times, then DONE or ERROR. A pipe that ends without either tells of a child that died.
"""

from __future__ import annotations

import json
import os
import struct
from enum import IntEnum
from typing import Any

from cosygate.kit.pcm import PIECE_BYTES

HEADER = struct.Struct("<BI")  # type, bytes that follow
MAX_BODY = PIECE_BYTES


class Kind(IntEnum):
    INFO = 1  # JSON {codec, rate, channels, duration}
    PCM = 2  # s16le mono, an even number of bytes
    DONE = 3  # JSON {bad_packets}
    ERROR = 4  # JSON {code, detail}: one of cosygate.errors


def write(fd: int, kind: Kind, body: bytes) -> None:
    """Blocks while the pipe is full: this is how a slow consumer slows the decoder."""
    rest = HEADER.pack(kind, len(body)) + body
    while rest:
        rest = rest[os.write(fd, rest) :]


def write_json(fd: int, kind: Kind, value: dict[str, Any]) -> None:
    write(fd, kind, json.dumps(value).encode())
