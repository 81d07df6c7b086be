"""Breakers of one machine's gateways: a small file per engine, in a folder that lives as long as `serve`.

A file has two halves, written in turns under its lock (flock, which the kernel releases when its holder dies). Whoever
reads takes the newest half that is whole, and needs no lock: a process that is stopped or killed in the middle of
writing leaves the other half as it was. The folder should be in memory (/dev/shm): a call on the event loop writes it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cosygate.kit.breaker import Breaker
from cosygate.kit.clock import Clock
from cosygate.ports.breaker import BoardBusy

_HEAD = struct.Struct("<QII")  # version, length of what follows, CRC-32 of both
_HALF = 8192  # a breaker takes 3 KB at most
_TRIES = 5
_TRY_AGAIN_S = 0.001  # whoever holds the lock in an orderly way has it for some 50 µs
_NAME_MAX = 200  # bytes of a file's name; file systems take 255
_OPEN_MAX = 512  # files at once: engines come and go, and what was used longest ago is opened again when it is wanted
_CLOSED = Breaker()


@dataclass
class _File:
    descriptor: int
    version: int = 0
    seen: Breaker = _CLOSED  # as it was last read


class FileBreakers:
    """Implements ports.breaker.BreakerBoard. For one event loop: between taking a lock and releasing it, nothing is
    awaited."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        """Raises OSError when the folder cannot be used."""
        self._clock = clock
        self._folder = folder
        self._closed = False
        self._files: dict[str, _File] = {}  # by engine
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def close(self) -> None:
        self._closed = True
        for file in self._files.values():
            os.close(file.descriptor)

    def look(self, engine: str) -> Breaker:
        try:
            return self._read(self._file(engine))
        except OSError:
            known = self._files.get(engine)
            return known.seen if known else _CLOSED

    def _file(self, engine: str) -> _File:
        """Raises OSError."""
        if self._closed:
            raise OSError(errno.EBADF, "closed")
        file = self._files.get(engine)
        if file is None:
            if len(self._files) >= _OPEN_MAX:
                os.close(self._files.pop(next(iter(self._files))).descriptor)
            path = self._folder / file_name(engine)
            file = _File(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._files[engine] = file
        return file

    def _read(self, file: _File) -> Breaker:
        both = os.pread(file.descriptor, 2 * _HALF, 0)
        newest = max((_version(both, half) for half in (0, 1)), default=0)
        if newest == file.version:  # the usual case: nothing to take apart
            return file.seen
        for found, body in sorted(_whole(both), reverse=True):
            if found > file.version:
                file.version, file.seen = found, Breaker.from_json(json.loads(body))
                break
        return file.seen

    async def change(self, engine: str, step: Callable[[Breaker], Breaker]) -> Breaker:
        for attempt in range(_TRIES):
            if attempt:
                await self._clock.sleep(_TRY_AGAIN_S)
            try:
                file = self._file(engine)
                with _held(file.descriptor) as held:
                    if held:
                        return self._write(file, step)
            except OSError as error:
                raise BoardBusy from error
        raise BoardBusy

    def _write(self, file: _File, step: Callable[[Breaker], Breaker]) -> Breaker:
        before = self._read(file)
        after = step(before)
        if after == before:
            return after
        version = file.version + 1
        body = json.dumps(after.to_json(), separators=(",", ":")).encode()
        half = _HEAD.pack(version, len(body), zlib.crc32(body, version & 0xFFFF)) + body
        os.pwrite(file.descriptor, half, version % 2 * _HALF)
        file.version, file.seen = version, after
        return after


def file_name(engine: str) -> str:
    """One that no other engine's has, whatever is in it."""
    name = f"engine-{quote(engine, safe='')}"
    return name if len(name) <= _NAME_MAX else f"engine-%{hashlib.sha256(engine.encode()).hexdigest()}"


@contextmanager
def _held(descriptor: int) -> Iterator[bool]:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _version(both: bytes, half: int) -> int:
    at = half * _HALF
    return int(_HEAD.unpack_from(both, at)[0]) if len(both) >= at + _HEAD.size else 0


def _whole(both: bytes) -> Iterator[tuple[int, bytes]]:
    """The halves that were written to their end, with their versions."""
    for at in (0, _HALF):
        if len(both) < at + _HEAD.size:
            continue
        version, length, checksum = _HEAD.unpack_from(both, at)
        body = both[at + _HEAD.size : at + _HEAD.size + length]
        if len(body) == length and zlib.crc32(body, version & 0xFFFF) == checksum:
            yield version, body
