"""Temporary files on the local disk: bodies on their way in, and whole recordings for the decoder. None has a name
where the file system can do without (O_TMPFILE), so a crash leaves nothing; elsewhere `sweep` removes what it left."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from cosygate import errors
from cosygate.kit.clock import Clock
from cosygate.kit.threads import finished

MIB = 1024 * 1024
_HELD = 64 * MIB  # bytes of bodies that may wait in memory for what they lack, roughly
_HELD_LEAST = 64 * 1024  # bytes that each may hold, however many there are
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

T = TypeVar("T")


class Scratch:
    """All methods but `run` and `close` block."""

    def __init__(self, folder: Path, min_free_bytes: int, clock: Clock, threads: int = 4) -> None:
        self._folder = folder
        self._min_free = min_free_bytes
        self._clock = clock
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="scratch")
        self.arriving = 0  # bodies that are not closed; for the event loop

    def share(self) -> int:
        """Bytes that one body may hold in memory: a thousand slow ones must not hold a thousand times what one may."""
        return max(_HELD_LEAST, min(MIB, _HELD // max(1, self.arriving)))

    def prepare(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def check_room(self, size: int) -> None:
        """Raises StorageFull when a file of `size` bytes would use up the disk."""
        stat = os.statvfs(self._folder)
        if stat.f_bavail * stat.f_frsize - size < self._min_free:
            raise errors.StorageFull()

    def file(self, size: int = 0) -> int:
        """A descriptor, to read and write, of an empty file; `size`: what it is going to hold, at least."""
        self.check_room(size)
        with suppress(OSError):
            return os.open(self._folder, os.O_TMPFILE | os.O_RDWR, 0o600)
        fd, path = tempfile.mkstemp(dir=self._folder)
        Path(path).unlink()
        return fd

    def read_only(self, fd: int) -> int:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)

    def sweep(self, older_than_s: float) -> int:
        """A crash between making a file and unlinking it leaves one."""
        removed = 0
        for left in self._folder.iterdir():
            with suppress(FileNotFoundError):
                if self._clock.now() - left.lstat().st_mtime >= older_than_s:
                    left.unlink()
                    removed += 1
        return removed

    async def run(self, job: Callable[..., T], *args: object, dropped: Callable[[T], None] | None = None) -> T:
        """Runs a blocking job in a thread of ours, to its end before a cancelled caller goes on: no descriptor is
        closed under a job that uses it. `dropped` gets the result that a cancelled caller will not take. Raises
        StorageFull, Unavailable for OSError."""
        try:
            return await finished(self._pool.submit(job, *args), dropped)
        except OSError as error:
            if error.errno in _FULL:
                raise errors.StorageFull() from error
            name = errno.errorcode.get(error.errno or 0, "unknown")
            raise errors.Unavailable(f"the local disk failed ({name})") from error

    async def close(self) -> None:
        await asyncio.to_thread(self._pool.shutdown)


def append(fd: int, pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        left = memoryview(piece)
        while left:
            left = left[os.write(fd, left) :]


def write_at(fd: int, data: bytes, at: int) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(fd, left, at)
        left, at = left[written:], at + written
