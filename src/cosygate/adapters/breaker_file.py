"""Breakers of one machine's gateways: a small file per engine, in a folder that lives as long as `serve`.

A file has two halves, written in turns under its lock (flock, which the kernel releases when its holder dies). Whoever
reads takes the newest half that is whole, and needs no lock: a process that is stopped or killed in the middle of
writing leaves the other half as it was. The folder should be in memory (/dev/shm): a call on the event loop writes it.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cosygate.kit.breaker import Breaker
from cosygate.kit.clock import Clock
from cosygate.ports.breaker import BoardBusy

_HEAD = struct.Struct("<QII")  # version, length of what follows, CRC-32 of both
_HALF = 8192  # a breaker takes 3 KB at most
_TRIES = 5
_TRY_AGAIN_S = 0.001  # whoever holds the lock in an orderly way has it for some 50 µs


class FileBreakers:
    """Implements ports.breaker.BreakerBoard. For one event loop: between taking a lock and releasing it, nothing is
    awaited."""

    def __init__(self, folder: Path, engines: int, clock: Clock) -> None:
        """Raises OSError when the folder cannot be used."""
        self._clock = clock
        self._descriptors: list[int] = []
        self._seen = [(0, Breaker())] * engines  # version, and what was last read
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for engine in range(engines):
            path = folder / f"engine-{engine}"
            self._descriptors.append(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))

    def close(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()

    def look(self, engine: int) -> Breaker:
        try:
            both = os.pread(self._descriptors[engine], 2 * _HALF, 0)
        except (OSError, IndexError):  # closed by now
            return self._seen[engine][1]
        version, last = self._seen[engine]
        newest = max((_version(both, half) for half in (0, 1)), default=0)
        if newest == version:  # the usual case: nothing to take apart
            return last
        for found, body in sorted(_whole(both), reverse=True):
            if found > version:
                self._seen[engine] = (found, Breaker.from_json(json.loads(body)))
                break
        return self._seen[engine][1]

    async def change(self, engine: int, step: Callable[[Breaker], Breaker]) -> Breaker:
        for attempt in range(_TRIES):
            if attempt:
                await self._clock.sleep(_TRY_AGAIN_S)
            try:
                with self._held(engine) as held:
                    if held:
                        return self._write(engine, step)
            except (OSError, IndexError) as error:
                raise BoardBusy from error
        raise BoardBusy

    def _write(self, engine: int, step: Callable[[Breaker], Breaker]) -> Breaker:
        before = self.look(engine)
        after = step(before)
        if after == before:
            return after
        version = self._seen[engine][0] + 1
        body = json.dumps(after.to_json(), separators=(",", ":")).encode()
        half = _HEAD.pack(version, len(body), zlib.crc32(body, version & 0xFFFF)) + body
        os.pwrite(self._descriptors[engine], half, version % 2 * _HALF)
        self._seen[engine] = (version, after)
        return after

    @contextmanager
    def _held(self, engine: int) -> Iterator[bool]:
        descriptor = self._descriptors[engine]
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
