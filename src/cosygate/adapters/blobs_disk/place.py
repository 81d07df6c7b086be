"""An upload's folder, opened: names in it, its mark, and the lock that keeps marks and parts from contradicting."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cosygate import errors
from cosygate.adapters.blobs_disk.disk import Disk
from cosygate.model.upload import LastMark

MARK = "last"
_LOCK_LOOK_S = 0.001  # a lock is held for microseconds: only a stopped process or a sick disk takes longer


def part_name(seq: int) -> str:
    return f"{seq:09d}"


class Place:
    """Blocking; for one thread."""

    __slots__ = ("_lock_wait_s", "fd", "path", "upload_id")

    def __init__(self, upload_id: str, path: str, lock_wait_s: float) -> None:
        self.upload_id = upload_id
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self._lock_wait_s = lock_wait_s

    def part(self, seq: int) -> str:
        """By path, not by descriptor: once `erase` has moved the folder, nothing more gets a name in it."""
        return f"{self.path}/{part_name(seq)}"

    def has(self, seq: int) -> bool:
        return os.access(part_name(seq), os.F_OK, dir_fd=self.fd)

    def last(self) -> str:
        return f"{self.path}/{MARK}"

    def mark(self) -> LastMark | None:
        return read_mark(self.fd)

    def highest(self) -> int:
        """The highest seq, -1 when there is none."""
        return max((int(name) for name in os.listdir(self.fd) if name != MARK), default=-1)

    @contextmanager
    def locked(self, *, alone: bool) -> Iterator[None]:
        """Over all processes. Raises Unavailable when somebody holds the lock for seconds."""
        how = (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB
        deadline = time.monotonic() + self._lock_wait_s
        while True:
            try:
                fcntl.flock(self.fd, how)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise errors.Unavailable("the upload is locked") from None
                time.sleep(_LOCK_LOOK_S)
        try:
            yield
        finally:
            fcntl.flock(self.fd, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self.fd)


class Places:
    def __init__(self, disk: Disk, lock_wait_s: float) -> None:
        self._disk = disk
        self._lock_wait_s = lock_wait_s

    def find(self, upload_id: str) -> Place | None:
        try:
            return Place(upload_id, self._disk.upload_folder(upload_id), self._lock_wait_s)
        except FileNotFoundError:
            return None

    def make(self, upload_id: str) -> Place:
        """Raises FileNotFoundError when it is erased at this very moment."""
        path = self._disk.upload_folder(upload_id)
        self._disk.make_folder(path)
        return Place(upload_id, path, self._lock_wait_s)


def mark_bytes(mark: LastMark) -> bytes:
    return json.dumps({"last_seq": mark.last_seq, "options": mark.options}).encode()


def read_mark(folder: int) -> LastMark | None:
    """Of the folder that the descriptor stands for; None when there is none. Raises Conflict when it is damaged, which
    a power loss with durability=process can do."""
    try:
        fd = os.open(MARK, os.O_RDONLY, dir_fd=folder)
    except FileNotFoundError:
        return None
    with open(fd, "rb") as file:
        text = file.read()
    try:
        data = json.loads(text)
        return LastMark(data["last_seq"], data["options"])
    except (ValueError, KeyError, TypeError):
        raise errors.Conflict("what is stored of this upload is damaged: give it up and send it again") from None
