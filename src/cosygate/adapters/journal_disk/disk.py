"""What all sessions of a process share: the threads, what waits to be written, and the way back to the event loop."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Literal, TypeVar

from cosygate.adapters.journal_disk.bases import Bases
from cosygate.adapters.journal_disk.claims import Found, claim
from cosygate.adapters.journal_disk.faults import translated
from cosygate.adapters.journal_disk.places import Places
from cosygate.adapters.journal_disk.room import Room
from cosygate.adapters.journal_disk.scribe import Job, Report, Scribe
from cosygate.adapters.journal_disk.session import Append, Log, Outcome, Session
from cosygate.adapters.journal_disk.syncs import Syncs
from cosygate.adapters.journal_disk.writer import DiskWriter
from cosygate.kit.threads import finished

T = TypeVar("T")
_THREADS = 4
_SLOW_S = 0.005  # a write that took longer was held up by the kernel
_THREAD_FOR_S = 2.0


class Disk:
    """A `Desk` (writer.py). `start` before use, in the event loop that uses it; `close` after it."""

    loop: asyncio.AbstractEventLoop

    def __init__(
        self,
        places: Places,
        room: Room,
        *,
        durability: Literal["disk", "process"],
        most_waiting: int,
        sync: Callable[[int], None],
        sync_all: Callable[[int], None],
    ) -> None:
        self.places = places
        self._room = room
        self._most_waiting = most_waiting
        self._waiting = 0  # bytes that are not acknowledged yet
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="journal-jobs")
        self._syncs = Syncs(places, sync, sync_all, self._tell_synced) if durability == "disk" else None
        self._scribe = Scribe(self._tell, self._syncs.add if self._syncs else None)
        self.bases = Bases(places, self._syncs.retire if self._syncs else _close_log)
        self._writers: set[DiskWriter] = set()
        self._counting: Future[None] | None = None
        self._written_here: list[Outcome] = []  # in the loop, and not acknowledged yet
        self._slow_until = 0.0  # the thread writes until then

    async def start(self) -> None:
        self.loop = asyncio.get_running_loop()
        await self.run(self.places.prepare)
        await self.run(self._room.count)
        self._scribe.start()
        if self._syncs is not None:
            self._syncs.start()

    async def close(self) -> None:
        """Waits for what was appended. Idempotent."""
        for writer in list(self._writers):
            await writer.close()
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        self._scribe.stop()
        if self._syncs is not None:
            self._syncs.stop()
        self._pool.shutdown()

    async def claim(self, session_id: str, epoch: int) -> tuple[DiskWriter, Found]:
        session, found = await self.run(
            claim, self.places, self._room, session_id, epoch, dropped=lambda got: self._abandon(got[0])
        )
        writer = DiskWriter(self, session)
        self._writers.add(writer)
        return writer, found

    def _abandon(self, session: Session) -> None:
        """Nobody took it: the claim's caller was cancelled."""
        session.closed = True
        _close_log(session.log)
        session.fence.close()

    async def run(self, job: Callable[..., T], *args: Any, dropped: Callable[[T], None] | None = None) -> T:
        """Runs a blocking job in a thread, to its end even when the caller is cancelled; `dropped` then gets what came
        of it."""
        try:
            return await finished(self._pool.submit(job, *args), dropped)
        except FileNotFoundError:
            raise  # means something to who asked
        except OSError as error:
            raise translated(error) from error

    # --- of writers, in the event loop ---

    def waits(self, size: int) -> bool:
        """Whether so much waits already that `size` more is too much."""
        return self._waiting + size > self._most_waiting

    def put(self, one: Append) -> None:
        """Writes it here and now, unless something of its writer waits in the thread, or writing is slow at present."""
        self._waiting += one.size
        if one.writer.unwritten == 1 and time.perf_counter() >= self._slow_until:
            self._write_here(one)
        else:
            self._scribe.put(one)

    def _write_here(self, one: Append) -> None:
        """A write to the page cache takes a hundredth of a millisecond, and handing it to a thread several times that,
        for each file: the thread has to get the interpreter back after each of its writes. But a write may block, when
        the kernel holds up those who write too much: then the thread takes over for a while (ADR 10)."""
        began = time.perf_counter()
        try:
            [outcome] = one.writer.session.append([one])
        except Exception as error:  # a bug: told to whoever waits for this append
            outcome = (one, error)
        spent = time.perf_counter() - began
        if spent > _SLOW_S:
            self._slow_until = began + _THREAD_FOR_S
        one.writer.unwritten -= 1
        if self._syncs is None or outcome[1] is not None or one.passing:
            if not self._written_here:  # told in the loop's next turn: whoever appends and waits lets others work, too
                self.loop.call_soon(self._acknowledge_here)
            self._written_here.append(outcome)
        else:
            self._syncs.add(one.writer.session, [one])
        self._count_if_stale()

    def in_order(self, writer: DiskWriter, job: Callable[[], T]) -> Awaitable[T]:
        """Runs a short job in the writing thread, after what the writer has appended before."""
        future: asyncio.Future[T] = self.loop.create_future()
        writer.unwritten += 1
        self._scribe.put(Job(writer, job, future))
        return future

    def closed(self, writer: DiskWriter) -> None:
        self._writers.discard(writer)

    # --- reports of the threads ---

    def _tell(self, report: Report) -> None:
        self._count_if_stale()
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self._written, report)

    def _count_if_stale(self) -> None:
        if self._room.stale() and (self._counting is None or self._counting.done()):
            with suppress(RuntimeError):  # closing
                self._counting = self._pool.submit(self._count)

    def _tell_synced(self, outcomes: list[Outcome]) -> None:
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._acknowledge, outcomes)

    def _count(self) -> None:
        with suppress(OSError):
            self._room.count()

    def _written(self, report: Report) -> None:
        outcomes, unsynced, jobs = report
        for one, _ in outcomes:
            one.writer.unwritten -= 1
        for one in unsynced:
            one.writer.unwritten -= 1
        self._acknowledge(outcomes)
        for job, result, error in jobs:
            job.writer.unwritten -= 1
            if job.future.done():
                continue
            if error is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(translated(error) if isinstance(error, OSError) else error)
                job.future.exception()

    def _acknowledge_here(self) -> None:
        outcomes, self._written_here = self._written_here, []
        self._acknowledge(outcomes)

    def _acknowledge(self, outcomes: list[Outcome]) -> None:
        for one, error in outcomes:
            self._waiting -= one.size
            future = one.future
            if future.done():  # cancelled
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
                future.exception()  # nobody needs to look at it: no warning


def _close_log(log: Log) -> None:
    os.close(log.fd)
