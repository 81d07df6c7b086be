"""Locks on files beside the database, between processes. The kernel releases them when their holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FileLock:
    """One process's handle on one lock file."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)

    @contextmanager
    def held(self, within_s: float, *, poll_s: float) -> Iterator[bool]:
        """Waits at most `within_s` for the lock, and runs the body either way: True when it is held."""
        deadline = time.monotonic() + within_s
        while not (got := self._try()) and time.monotonic() < deadline:
            time.sleep(poll_s)
        try:
            yield got
        finally:
            if got:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._descriptor)

    def _try(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
