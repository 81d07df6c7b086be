"""How records lie in a file: a header, the payload, a checksum over both, so that a torn or damaged tail is noticed.

The last frame of each append has the LAST bit. Readers take whole appends only: what a full disk or a kill cut off in
the middle of one was never there.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

HEAD = 1  # JSON; first in every file: what precedes it (story.py)
SOUND = 2  # audio; `at` is its first byte's number in the stream
EVENT = 3  # JSON; `at` is the event's number in the session, passing ones counted too
PASSING = 4  # the same, not for claims
SNAPSHOT = 5  # JSON; what replaces all before it
LAST = 0x80

_HEADER = struct.Struct("<BIQ")  # kind, bytes of payload, at
_SUM = struct.Struct("<I")
OVERHEAD = _HEADER.size + _SUM.size
_WHOLE = struct.Struct("<BIQI")
_PIECE = 256 * 1024  # bytes that a scan reads at once
_PEEK = 1024  # bytes that a peek reads at once: a header, and most events whole


class Frame(NamedTuple):
    kind: int  # without LAST
    last: bool
    at: int
    place: int  # where its header begins in the file
    end: int  # where the next one would begin
    payload: bytes  # empty for the audio of a peek


def header(kind: int, at: int, payload: bytes) -> bytes:
    """What goes before `payload`; `kind` with LAST where it belongs."""
    start = _HEADER.pack(kind, len(payload), at)
    return start + _SUM.pack(crc32(payload, crc32(start)))


def framed(kind: int, at: int, payload: bytes) -> bytes:
    return header(kind | LAST, at, payload) + payload


def scan(fd: int, place: int, bound: int) -> Iterator[Frame]:
    """Sound frames from `place` on, each checked, until one is torn, damaged, or passes `bound`."""
    buffer, base = b"", place  # buffer[0] lies at `base` in the file
    while place + OVERHEAD <= bound:
        if place + OVERHEAD > base + len(buffer):
            buffer, base = _more(fd, place, min(_PIECE, bound - place)), place
            if len(buffer) < OVERHEAD:
                return
        kind, length, at, checksum = _WHOLE.unpack_from(buffer, place - base)
        end = place + OVERHEAD + length
        if end > bound:
            return
        if end > base + len(buffer):
            buffer, base = _more(fd, place, min(max(_PIECE, end - place), bound - place)), place
            if end > base + len(buffer):
                return
        at_header = place - base
        payload = buffer[at_header + OVERHEAD : end - base]
        if not HEAD <= kind & ~LAST <= SNAPSHOT:
            return
        if crc32(payload, crc32(buffer[at_header : at_header + _HEADER.size])) != checksum:
            return
        yield Frame(kind & ~LAST, bool(kind & LAST), at, place, end, payload)
        place = end


def peek(fd: int, place: int, bound: int) -> Iterator[Frame]:
    """As `scan`, but audio is passed over unread, and so unchecked."""
    while place + OVERHEAD <= bound:
        piece = os.pread(fd, min(_PEEK, bound - place), place)
        if len(piece) < OVERHEAD:
            return
        kind, length, at, checksum = _WHOLE.unpack_from(piece)
        end = place + OVERHEAD + length
        if end > bound or not HEAD <= kind & ~LAST <= SNAPSHOT:
            return
        payload = b""
        if kind & ~LAST != SOUND:
            payload = piece[OVERHEAD : OVERHEAD + length]
            if len(payload) < length:
                payload = _more(fd, place + OVERHEAD, length)
            if crc32(payload, crc32(piece[: _HEADER.size])) != checksum:
                return
        yield Frame(kind & ~LAST, bool(kind & LAST), at, place, end, payload)
        place = end


def appends(frames: Iterator[Frame]) -> Iterator[list[Frame]]:
    """Whole ones only."""
    together: list[Frame] = []
    for frame in frames:
        together.append(frame)
        if frame.last:
            yield together
            together = []


def _more(fd: int, place: int, wanted: int) -> bytes:
    """Up to `wanted` bytes; fewer only at the end of the file."""
    pieces = []
    while wanted > 0 and (piece := os.pread(fd, wanted, place)):
        pieces.append(piece)
        place += len(piece)
        wanted -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
