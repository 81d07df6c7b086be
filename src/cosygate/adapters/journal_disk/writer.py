"""A `JournalWriter`: the event loop's side of an open session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import orjson

from cosygate import errors
from cosygate.adapters.journal_disk import frames, story
from cosygate.adapters.journal_disk.bases import Bases
from cosygate.adapters.journal_disk.session import NO_AUDIO, ONLY_WAITS, Append, Session, again
from cosygate.ports.journal import Event, Sound

T = TypeVar("T")
_TURNS = 8  # reads, each disturbed by a compaction
_ENTRY = 256  # bytes that an append counts beside its records


class Desk(Protocol):
    """What all writers of the process share (disk.py)."""

    loop: asyncio.AbstractEventLoop
    bases: Bases

    def waits(self, size: int) -> bool: ...
    def put(self, one: Append) -> None: ...
    def in_order(self, writer: DiskWriter, job: Callable[[], T]) -> Awaitable[T]: ...
    async def run(self, job: Callable[..., T], *args: Any) -> T: ...
    def closed(self, writer: DiskWriter) -> None: ...


class DiskWriter:
    """See the port. The desk counts `unwritten` down, as the writing thread reports."""

    __slots__ = ("_broken", "_closing", "_compacting", "_desk", "session", "unwritten")

    def __init__(self, desk: Desk, session: Session) -> None:
        self._desk = desk
        self.session = session
        self.unwritten = 0  # appends
        self._broken: BaseException | None = None  # refused here: what is appended later must not be stored, either
        self._compacting = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None

    def append(self, *records: Sound | Event, passing: bool = False) -> asyncio.Future[None]:
        future = self._desk.loop.create_future()
        if self._broken is not None:
            return _failed(future, again(self._broken))
        kind = frames.PASSING if passing else frames.EVENT
        size, start, end = _ENTRY, NO_AUDIO, 0
        entries = []
        try:
            for record in records:
                if isinstance(record, Sound):
                    if record.start < end:
                        raise ValueError("audio that overlaps")
                    if record.data:
                        if start < 0:
                            start = record.start
                        end = record.start + len(record.data)
                        size += len(record.data)
                        entries.append((frames.SOUND, record.start, record.data))
                else:
                    payload = orjson.dumps(record if type(record) is dict else dict(record))
                    size += len(payload)
                    entries.append((kind, 0, payload))
        except (TypeError, ValueError) as error:  # not JSON, or not in order: the caller's bug, and told as all else is
            self._broken = error
            return _failed(future, error)
        if self._desk.waits(size):
            self._broken = errors.Unavailable("too much waits to be journalled")
            return _failed(future, again(self._broken))
        self.unwritten += 1
        self._desk.put(Append(self, entries, size, start, passing, future))
        return future

    async def read(self, start: int, limit: int) -> bytes:
        self._check()
        if self.unwritten:
            await self._desk.in_order(self, _nothing)
        try:
            return await self._desk.run(self._read, start, limit)
        except FileNotFoundError:
            self._check()
            raise errors.Unavailable("the journal is damaged") from None

    def _read(self, start: int, limit: int) -> bytes:
        for _ in range(_TURNS):
            end, sources = self.session.end, self.session.sources
            if start < self.session.first:
                raise ValueError("audio that is not in the journal any more")
            try:
                data = story.read(self.session.folder, sources, start, min(start + limit, end))
            except FileNotFoundError:
                if sources is self.session.sources:
                    raise
                continue  # compacted meanwhile
            self._check()
            return data
        raise errors.Unavailable("the journal is being compacted")

    async def compact(self, snapshot: Event, keep_from: int) -> None:
        self._check()
        if self._broken is not None:
            raise again(self._broken)
        payload = orjson.dumps(dict(snapshot))
        bases = self._desk.bases
        async with self._compacting:
            before = await self._desk.in_order(self, lambda: bases.turn(self.session))
            await self._desk.run(bases.write, self.session, before, payload, keep_from)

    def held(self) -> bool:
        return self.session.held()

    def _check(self) -> None:
        if not self.session.held():
            if self._closing is not None:
                raise errors.Unavailable("this journal is closed")
            raise errors.TakenOver()

    async def close(self) -> None:
        if self._closing is None:
            last: asyncio.Future[None] = self._desk.loop.create_future()  # done when everything before is
            self.unwritten += 1
            self._desk.put(Append(self, [], 0, ONLY_WAITS, False, last))
            self._broken = errors.Unavailable("this journal is closed")
            self._closing = asyncio.create_task(self._close(last))
        await asyncio.shield(self._closing)

    async def _close(self, last: Awaitable[None]) -> None:
        with suppress(errors.CosyGateError):
            await last
        async with self._compacting:
            await self._desk.in_order(self, self._end)
        self._desk.closed(self)

    def _end(self) -> None:
        self.session.closed = True
        self._desk.bases.retire(self.session.log)
        self.session.fence.close()


def _failed(future: asyncio.Future[None], error: BaseException) -> asyncio.Future[None]:
    future.set_exception(error)
    future.exception()  # nobody needs to look at it: no warning
    return future


def _nothing() -> None:
    pass
