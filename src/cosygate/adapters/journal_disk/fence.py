"""Who holds a session: a small file that everybody who has to do with the session maps, and a lock for changing it.

A writer writes, then looks here: while its epoch is still here, what it wrote counts. A claimer stores its epoch here,
then looks how far the logs reach. So whatever was acknowledged is seen by the next holder, and nobody takes a lock to
append. (Between the store and the look lie system calls on both sides, and with them full barriers.)
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cosygate import errors

NOBODY = 2**64 - 1  # dropped, or in the middle of a store
_CELL = struct.Struct("=Q")
_SIZE = 2 * _CELL.size
_LOOK_S = 0.002


class Fence:
    """The mapped file: the epoch, and a number that is a new one whenever the holder goes on to another log.

    It is mapped for reading only: a store through the map would kill the process where the disk is full (SIGBUS). A map
    keeps one descriptor.
    """

    def __init__(self, folder: str) -> None:
        """Raises FileNotFoundError."""
        self._path = f"{folder}/epoch"
        fd = os.open(self._path, os.O_RDONLY)
        try:
            if os.fstat(fd).st_size < _SIZE:
                raise FileNotFoundError(self._path)  # somebody is making it
            self._map = mmap.mmap(fd, _SIZE, prot=mmap.PROT_READ)
        finally:
            os.close(fd)
        self._cells = memoryview(self._map).cast("Q")

    @classmethod
    def make(cls, folder: str) -> Fence:
        """Makes the file when there is none. Under the folder's lock."""
        fd = os.open(f"{folder}/epoch", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(fd).st_size < _SIZE:
                os.pwrite(fd, bytes(_SIZE), 0)
        finally:
            os.close(fd)
        return cls(folder)

    @property
    def epoch(self) -> int:
        return int(self._cells[0])

    @property
    def seen(self) -> tuple[int, int]:
        """Equal to an earlier one: neither holder nor log has changed since (no number is ever stored twice)."""
        return int(self._cells[0]), int(self._cells[1])

    def store(self, epoch: int) -> None:
        """Under the folder's lock. NOBODY first: a store is bytes to the kernel, and who reads in the middle of one
        then sees something too high, never an older holder's epoch."""
        self._put(NOBODY, 0)
        if epoch != NOBODY:
            self._put(epoch, 0)

    def turned(self, number: int) -> None:
        """The holder goes on to another log; `number` is unique in the session."""
        self._put(number, _CELL.size)

    def _put(self, value: int, place: int) -> None:
        fd = os.open(self._path, os.O_WRONLY)
        try:
            os.pwrite(fd, _CELL.pack(value), place)
        finally:
            os.close(fd)

    def close(self) -> None:
        self._cells.release()
        self._map.close()


@contextmanager
def locked(folder: str, wait_s: float) -> Iterator[None]:
    """Alone with the session's folder. Held for a few system calls at a time, so whoever waits for long waits for a
    stopped process. Raises FileNotFoundError when there is no folder (any more), Unavailable after `wait_s`."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise errors.Unavailable("another process keeps this session's journal locked") from None
                time.sleep(_LOOK_S)
        if os.fstat(fd).st_ino != os.stat(folder).st_ino:
            raise FileNotFoundError(folder)  # dropped while we waited, and made anew
        yield
    finally:
        os.close(fd)
