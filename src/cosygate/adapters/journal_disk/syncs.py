"""durability=disk: what was written is synced in groups, all sessions together, and acknowledged after that.

A group begins at most EVERY_S after the one before has begun (or at once when that took longer), so a disk that is fast
enough acknowledges within 200 ms. Several threads: fsyncs at the same time share a commit of the file system's journal.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from cosygate import errors
from cosygate.adapters.journal_disk.fence import locked
from cosygate.adapters.journal_disk.places import Places
from cosygate.adapters.journal_disk.session import Append, Log, Outcome, Session

EVERY_S = 0.12
THREADS = 4
TOGETHER = 24  # logs in a group, from which on the file system is synced as a whole


def syncfs(fd: int) -> None:
    """syncfs(2): everything of the file system that `fd` lies on. Raises OSError, also for what could not be written
    before (Linux 5.8)."""
    if _LIBC.syncfs(fd):
        raise OSError(ctypes.get_errno(), "syncfs")


_LIBC = ctypes.CDLL(None, use_errno=True)


class Syncs:
    """`tell` is called from a thread, once a group."""

    def __init__(
        self,
        places: Places,
        sync: Callable[[int], None],
        sync_all: Callable[[int], None],
        tell: Callable[[list[Outcome]], None],
    ) -> None:
        self._places = places
        self._sync = sync
        self._sync_all = sync_all
        self._tell = tell
        self._changed = threading.Condition()
        self._waiting: dict[Log, list[Append]] = {}
        self._group: dict[Log, list[Append]] = {}
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="journal-sync")
        self._thread = threading.Thread(target=self._run, name="journal-syncs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """After what was added. Blocks; idempotent."""
        self._stopping.set()
        with self._changed:
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()
        self._pool.shutdown()

    def add(self, session: Session, appends: list[Append]) -> None:
        with self._changed:
            before = self._waiting.get(session.log)
            if before is not None:
                before.extend(appends)
                return
            self._waiting[session.log] = appends
            if len(self._waiting) == 1:
                self._changed.notify()

    def retire(self, log: Log) -> None:
        """Closes a log to which nothing is appended any more, once it is synced."""
        with self._changed:
            log.retired = True
            if log in self._waiting or log in self._group:
                return
        os.close(log.fd)

    def _run(self) -> None:
        begun = time.monotonic() - EVERY_S
        while True:
            with self._changed:
                while not self._waiting and not self._stopping.is_set():
                    self._changed.wait()
            self._stopping.wait(max(0.0, begun + EVERY_S - time.monotonic()))
            begun = time.monotonic()
            with self._changed:
                self._group, self._waiting = self._waiting, {}
                if not self._group:
                    return
            logs = list(self._group.items())
            outcomes: list[Outcome] = []
            self._together(list(self._group))
            for done in self._pool.map(self._some, (logs[at::THREADS] for at in range(min(THREADS, len(logs))))):
                outcomes += done
            with self._changed:
                retired = [log for log in self._group if log.retired and log not in self._waiting]
                self._group = {}
            for log in retired:
                os.close(log.fd)
            self._tell(outcomes)

    def _some(self, logs: list[tuple[Log, list[Append]]]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for log, appends in logs:
            try:
                self._one(log)
            except OSError:
                self._spoil(log)
            session = log.session
            if session.spoiled:
                outcomes += [(one, errors.Unavailable("the journal could not be synced")) for one in appends]
            elif session.fence_holds():
                outcomes += [(one, None) for one in appends]
            else:
                outcomes += [(one, errors.TakenOver()) for one in appends]
        return outcomes

    def _together(self, logs: list[Log]) -> None:
        """Many logs by one call for the whole file system: a third of the time, and one wait for the interpreter
        instead of one for each. What it cannot do is done one by one."""
        if len(logs) < TOGETHER:
            return
        ends = [(log, log.end) for log in logs]
        try:
            self._sync_all(logs[0].fd)
        except OSError:
            return
        for log, end in ends:
            log.synced, log.named = end, True

    def _one(self, log: Log) -> None:
        end = log.end
        if log.synced >= end and log.named:
            return
        self._sync(log.fd)
        if not log.named:
            self._places.sync_folder(log.session.folder)
            log.named = True
        log.synced = end

    def _spoil(self, log: Log) -> None:
        """The kernel forgets what it could not write, and says so once. So the session takes nothing more until it is
        claimed again, and what is not known to be on the disk is cut off, as its callers hear that it is not stored."""
        session = log.session
        session.trouble = errors.Unavailable("the journal could not be synced")
        session.spoiled = True
        try:
            with locked(session.folder, self._places.lock_wait_s):
                if session.held():
                    os.ftruncate(log.fd, log.synced)
        except (OSError, errors.Unavailable):
            pass
