"""How many bytes the store may take: a tally for each process that shares the root, and the disk's free space.

The tallies lie side by side in a small file that every process maps; each adds to its own and reads the sum. Nobody
waits for anybody, so a stopped process stops nobody, and a killed one leaves its tally for the next. They count the
files in uploads/, results/ and trash/ by whole blocks, and bodies that are being written. Bounds on the error: the sum
never exceeds `max_bytes` (room is announced, then checked, so of two that race for the last of it both may be refused);
kill -9 leaves the bytes of its bodies in flight counted. The first process to start on a root counts anew.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
import time

from cosygate import errors
from cosygate.kit.clock import Clock

BLOCK = 4096  # bytes: what the smallest file takes, so that a million one-byte parts are not free
TALLIES = 128  # processes on one root at once
_FREE_FOR_S = 1.0  # how long a look at the free space is trusted
_START_WAIT_S = 60.0  # a million files are counted in a few seconds
_START_LOOK_S = 0.02


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
        self._mutex = threading.Lock()
        self._open: list[int] = []
        self._map: mmap.mmap | None = None
        self._tallies = memoryview(bytearray(8)).cast("q")
        self._own = 0
        self._free = 0
        self._free_at = -_FREE_FOR_S

    def start(self) -> None:
        """Joins the processes on this root; the first one counts while the others wait. Raises Unavailable."""
        usage = self._opened("usage")
        _join(self._root, self._opened("running"), usage)
        self._own = self._claimed()
        self._map = mmap.mmap(usage, 8 * TALLIES)
        self._tallies = memoryview(self._map).cast("q")  # aligned, so each is read and written in one piece

    def _opened(self, name: str) -> int:
        self._open.append(os.open(os.path.join(self._root, name), os.O_RDWR | os.O_CREAT, 0o600))
        return self._open[-1]

    def _claimed(self) -> int:
        """The number of a tally that no running process has."""
        for number in range(TALLIES):
            try:
                fcntl.flock(self._opened(f"tallies/{number}"), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._open.pop())
            else:
                return number
        raise errors.Unavailable(f"at most {TALLIES} processes may share a store")

    def stop(self) -> None:
        """Idempotent."""
        self._tallies.release()
        if self._map is not None:
            self._map.close()
            self._map = None
        while self._open:
            os.close(self._open.pop())

    def take(self, size: int) -> None:
        """Raises StorageFull, taking nothing, when `size` more bytes (whole blocks) are too many."""
        with self._mutex:
            if self._free_bytes() - size < self._min_free:
                raise errors.StorageFull()
            self._tallies[self._own] += size
            if sum(self._tallies) > self._max:
                self._tallies[self._own] -= size
                raise errors.StorageFull()
            self._free -= size

    def give_back(self, size: int) -> None:
        with self._mutex:
            self._tallies[self._own] -= size
            self._free += size

    def check_free(self, size: int) -> None:
        """Raises StorageFull when a passing file of `size` bytes would use up the disk; it is not counted."""
        with self._mutex:
            if self._free_bytes() - size < self._min_free:
                raise errors.StorageFull()

    def used(self) -> int:
        return sum(self._tallies)

    def left(self) -> int:
        """Bytes until `take` refuses: of those that the store may take, and of those that the disk has."""
        with self._mutex:
            return max(0, min(self._max - sum(self._tallies), self._free_bytes() - self._min_free))

    def _free_bytes(self) -> int:
        """What the file system had left up to a second ago, less what this process has taken and plus what it has given
        since."""
        now = self._clock.monotonic()
        if now - self._free_at >= _FREE_FOR_S:
            stat = os.statvfs(self._root)
            self._free, self._free_at = stat.f_bavail * stat.f_frsize, now
        return self._free


def _join(root: str, running: int, usage: int) -> None:
    """Holds a shared lock on `running`, which ends with the process; whoever gets it alone is the first, and counts."""
    deadline = time.monotonic() + _START_WAIT_S
    while time.monotonic() < deadline:
        try:
            fcntl.flock(running, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(usage, 0)
            os.pwrite(usage, _counted(root).to_bytes(8 * TALLIES, "little"), 0)
        except BlockingIOError:
            pass
        try:
            fcntl.flock(running, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if os.fstat(usage).st_size == 8 * TALLIES:
                return
            fcntl.flock(running, fcntl.LOCK_UN)  # whoever counted died over it
        except BlockingIOError:
            time.sleep(_START_LOOK_S)
    raise errors.Unavailable("another process has been counting the store for too long")


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
