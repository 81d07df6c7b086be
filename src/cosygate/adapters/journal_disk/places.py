"""Where sessions lie under the root, what their files are called, and how a session goes."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress

from cosygate.adapters.journal_disk.fence import NOBODY, Fence, locked

_ID = re.compile(r"[0-9a-f]{32}")
_LOG = re.compile(r"([0-9a-f]{16})\.([0-9a-f]{6})\.log")
TURNS = 2**24  # logs of one epoch
EPOCHS = 2**39  # a turn's number must fit 64 bits with its epoch


def log_name(epoch: int, turn: int) -> str:
    """Names sort as (epoch, turn) does."""
    return f"{epoch:016x}.{turn:06x}.log"


def base_name(log: str) -> str:
    """The file that stands for everything before `log`."""
    return log.removesuffix("log") + "base"


def log_of(base: str) -> str:
    return base.removesuffix("base") + "log"


def parts(log: str) -> tuple[int, int] | None:
    """(epoch, turn); None for other files."""
    found = _LOG.fullmatch(log)
    return (int(found[1], 16), int(found[2], 16)) if found else None


class Places:
    """root/sessions/<id>/: `epoch`, logs, at most one base. root/trash: nothing there counts. All methods block."""

    def __init__(self, root: str, *, sync: Callable[[int], None] | None, lock_wait_s: float) -> None:
        self.root = root
        self.sync = sync  # None: durability=process, the page cache survives kill -9
        self.lock_wait_s = lock_wait_s

    def prepare(self) -> None:
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        for name in ("sessions", "trash"):
            with suppress(FileExistsError):
                os.mkdir(f"{self.root}/{name}", 0o700)
        self.sync_folder(self.root)
        self.sync_folder(os.path.dirname(os.path.abspath(self.root)))
        for left in os.listdir(f"{self.root}/trash"):  # by somebody who died over it
            shutil.rmtree(f"{self.root}/trash/{left}", ignore_errors=True)

    def folder(self, session_id: str) -> str:
        if not _ID.fullmatch(session_id):  # ids are ours, never the client's: a wrong one is a bug, not an answer
            raise ValueError("not a session id")
        return f"{self.root}/sessions/{session_id}"

    def make(self, folder: str) -> None:
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)

    def sync_folder(self, path: str) -> None:
        """Makes the names in a folder survive power loss."""
        if self.sync is None:
            return
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.sync(fd)
        finally:
            os.close(fd)

    def sync_file(self, path: str) -> None:
        if self.sync is None:
            return
        fd = os.open(path, os.O_RDONLY)
        try:
            self.sync(fd)
        finally:
            os.close(fd)

    def drop(self, session_id: str) -> None:
        """Moved away first, at once and whole: nobody finds half of it."""
        folder = self.folder(session_id)
        gone = f"{self.root}/trash/{secrets.token_hex(16)}"
        try:
            with locked(folder, self.lock_wait_s):
                os.rename(folder, gone)
        except FileNotFoundError:
            return
        with suppress(FileNotFoundError):
            fence = Fence(gone)
            fence.store(NOBODY)
            fence.close()
        self.sync_folder(os.path.dirname(folder))
        shutil.rmtree(gone, ignore_errors=True)

    def sessions(self, now: float) -> dict[str, float]:
        found = {}
        for entry in os.scandir(f"{self.root}/sessions"):
            last = 0.0
            with suppress(FileNotFoundError):  # dropped, or compacted, meanwhile
                last = entry.stat().st_mtime
                for file in os.scandir(entry.path):
                    with suppress(FileNotFoundError):
                        if file.name.endswith(".log"):
                            last = max(last, file.stat().st_mtime)
                found[entry.name] = max(0.0, now - last)
        return found

    def used(self) -> int:
        """Bytes in all sessions' files."""
        total = 0
        for entry in os.scandir(f"{self.root}/sessions"):
            with suppress(FileNotFoundError):
                for file in os.scandir(entry.path):
                    with suppress(FileNotFoundError):
                        total += file.stat().st_size
        return total
