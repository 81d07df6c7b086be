"""The one thread that writes: it takes what all sessions have appended, and writes each session's in one call.

A thread of its own, as a write may block; only one, as several would contend for the interpreter's lock. It waits a
moment before it takes: what gathers in that moment costs one wake-up of the event loop instead of many.
"""

from __future__ import annotations

import queue
import threading
import time
from asyncio import Future
from collections.abc import Callable
from typing import Any

from cosygate.adapters.journal_disk.session import Append, Outcome, Session

GATHER_S = 0.001

# What the event loop is told of a batch: outcomes, and what was written but is not durable yet.
Report = tuple[list[Outcome], list[Append], list[tuple["Job", Any, BaseException | None]]]


class Job:
    """Something else that is done in the order of a session's appends."""

    __slots__ = ("future", "run", "writer")

    def __init__(self, writer: Any, run: Callable[[], Any], future: Future[Any]) -> None:
        self.writer = writer
        self.run = run
        self.future = future


class Scribe:
    """`tell` is called from the thread, once a batch. `sync`, with durability=disk, gets what must be synced first."""

    def __init__(self, tell: Callable[[Report], None], sync: Callable[[Session, list[Append]], None] | None) -> None:
        self._tell = tell
        self._sync = sync
        self._queue: queue.SimpleQueue[Append | Job | None] = queue.SimpleQueue()  # bounded by writer.py, in bytes
        self.put = self._queue.put
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """After what was put. Blocks; idempotent."""
        if self._thread.ident is not None:
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            time.sleep(GATHER_S)
            sessions: dict[Any, list[Append | Job]] = {}
            more = True
            while more and item is not None:
                sessions.setdefault(item.writer, []).append(item)
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    more = False
            report: Report = ([], [], [])
            for writer, items in sessions.items():
                self._serve(writer.session, items, report)
            self._tell(report)
            if item is None:
                return

    def _serve(self, session: Session, items: list[Append | Job], report: Report) -> None:
        batch: list[Append] = []
        for item in items:
            if isinstance(item, Append):
                batch.append(item)
                continue
            self._append(session, batch, report)
            batch = []
            try:
                report[2].append((item, item.run(), None))
            except Exception as error:
                report[2].append((item, None, error))
        self._append(session, batch, report)

    def _append(self, session: Session, batch: list[Append], report: Report) -> None:
        if not batch:
            return
        try:
            outcomes = session.append(batch)
        except Exception as error:  # a bug: it must not stop the others' appends
            report[0].extend((one, error) for one in batch)
            return
        if self._sync is None:
            report[0].extend(outcomes)
            return
        waiting = [one for one, error in outcomes if error is None and not one.passing]
        report[0].extend(outcome for outcome in outcomes if outcome[1] is not None or outcome[0].passing)
        report[1].extend(waiting)
        if waiting:
            self._sync(session, waiting)
