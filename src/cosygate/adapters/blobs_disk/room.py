"""How many bytes the store may take: one counter for all processes that share the root, and the disk's free space.

The counter is a file of 8 bytes, changed under a lock. It counts the files in uploads/, results/ and trash/ by whole
blocks, and bodies that are being written. It is exact but for kill -9, which may leave the bytes of the bodies in
flight counted (never the other way: room is taken before a byte is written and given back after it is removed). The
first process that starts on a root counts anew.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cosygate import errors
from cosygate.kit.clock import Clock

BLOCK = 4096  # bytes: what the smallest file takes, so that a million one-byte parts are not free
_FREE_FOR_S = 1.0  # how long a look at the free space is trusted


def blocks(size: int) -> int:
    """Bytes that a file of `size` bytes takes on disk."""
    return max(1, -(-size // BLOCK)) * BLOCK


class Room:
    """Blocking; used from threads."""

    def __init__(self, root: str, max_bytes: int, min_free_bytes: int, clock: Clock) -> None:
        self._root = root
        self._max = max_bytes
        self._min_free = min_free_bytes
        self._clock = clock
        self._mutex = threading.Lock()  # flock() does not tell threads of one descriptor apart
        self._running = self._counter = -1
        self._free = 0
        self._free_at = -_FREE_FOR_S

    def start(self) -> None:
        """Joins the processes on this root; the first one counts while the others wait."""
        self._counter = os.open(f"{self._root}/usage", os.O_RDWR | os.O_CREAT, 0o600)
        self._running = os.open(f"{self._root}/running", os.O_RDWR | os.O_CREAT, 0o600)
        while True:
            try:
                fcntl.flock(self._running, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                fcntl.flock(self._running, fcntl.LOCK_SH)
            else:
                os.ftruncate(self._counter, 0)
                self._write(_counted(self._root))
                fcntl.flock(self._running, fcntl.LOCK_SH)
            if os.fstat(self._counter).st_size == 8:
                return
            fcntl.flock(self._running, fcntl.LOCK_UN)  # whoever counted died over it

    def stop(self) -> None:
        for fd in (self._running, self._counter):
            if fd >= 0:
                os.close(fd)
        self._running = self._counter = -1

    def take(self, size: int) -> None:
        """Raises StorageFull, taking nothing, when `size` more bytes (whole blocks) are too many."""
        with self._locked():
            used = self._read() + size
            if used > self._max or self._free_bytes() - size < self._min_free:
                raise errors.StorageFull()
            self._write(used)
            self._free -= size

    def give_back(self, size: int) -> None:
        with self._locked():
            self._write(max(0, self._read() - size))
            self._free += size

    def check_free(self, size: int) -> None:
        """Raises StorageFull when a passing file of `size` bytes would use up the disk; it is not counted."""
        with self._mutex:
            if self._free_bytes() - size < self._min_free:
                raise errors.StorageFull()

    def used(self) -> int:
        with self._locked():
            return self._read()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._mutex:
            fcntl.flock(self._counter, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._counter, fcntl.LOCK_UN)

    def _read(self) -> int:
        return int.from_bytes(os.pread(self._counter, 8, 0), "little")

    def _write(self, used: int) -> None:
        os.pwrite(self._counter, used.to_bytes(8, "little"), 0)

    def _free_bytes(self) -> int:
        """What the file system had left up to a second ago, less what this process has taken and plus what it has given since."""
        now = self._clock.monotonic()
        if now - self._free_at >= _FREE_FOR_S:
            stat = os.statvfs(self._root)
            self._free, self._free_at = stat.f_bavail * stat.f_frsize, now
        return self._free


def _counted(root: str) -> int:
    total = 0
    for kind in ("uploads", "results", "trash"):
        todo = [f"{root}/{kind}"]
        while todo:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                    else:
                        total += blocks(entry.stat(follow_symlinks=False).st_size)
    return total
