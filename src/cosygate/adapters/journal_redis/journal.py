"""The journal's sessions in Redis: claims, watchers, and what the process knows of who holds what."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Sequence
from typing import Any

import orjson
from redis import exceptions
from redis.asyncio import Redis

from cosygate import errors
from cosygate.adapters.journal_redis.faults import translated
from cosygate.adapters.journal_redis.line import Line
from cosygate.adapters.journal_redis.scripts import LOST, PAGE, TAKEN
from cosygate.adapters.journal_redis.writer import RedisWriter
from cosygate.kit.clock import Clock, SystemClock
from cosygate.kit.logs import logger
from cosygate.ports.journal import Claimed, Event, Past

_log = logger()
_ID = re.compile(r"[0-9a-f]{32}")
_EPOCHS = 2**39  # as for the journal on a disk; Redis counts up to 2**53 exactly
_START = "0-0"  # before everything
_DROPPED_S = 600  # for how long a writer of a dropped session is told so
_SCAN_S = 60.0
_SCAN_COUNT = 1000


class RedisJournal:
    """See ports/journal.py. `start` before use, `close` after it; both in the event loop that uses it. The client
    (answers as bytes) stays its owner's.

    What was acknowledged is in Redis, and lives as long as that does: a Redis that was emptied breaks every writer with
    Unavailable, and the next claim finds nothing. waiting_bytes: how much may wait for Redis in this process.
    patience_s: after so long without an answer (and at most a quarter of a second more) everything ends in Unavailable.
    ttl_s: a session that nobody holds leaves nothing after it. look_s: who holds a session that says nothing is asked
    so often: `held` is late by at most one and a half times that, and an answer; with anything appended by no more than
    that append's answer, within this process not at all. prefix: of every key.
    """

    def __init__(
        self,
        client: Redis,
        *,
        waiting_bytes: int = 64 * 1024**2,
        patience_s: float = 2.5,
        ttl_s: int = 3600,
        look_s: float = 1.0,
        prefix: str = "cg:live",
        clock: Clock | None = None,
    ) -> None:
        self._client = client
        self._line = Line(client, most_waiting=waiting_bytes, patience_s=patience_s)
        self._ttl_s = ttl_s
        self._look_s = look_s
        self._prefix = prefix
        self._clock = clock or SystemClock()
        self._writers: dict[str, set[RedisWriter]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Asks Redis nothing: it may be away."""
        self._line.begin()
        self._looking = asyncio.create_task(self._look_around())

    async def close(self) -> None:
        """Waits for what was appended, and closes every writer. Idempotent."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        for writer in [one for writers in self._writers.values() for one in writers]:
            await writer.close()
        await self._line.close()

    async def __aenter__(self) -> RedisJournal:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def claim(self, session_id: str, epoch: int) -> Claimed:
        if not 0 < epoch < _EPOCHS:
            raise ValueError("not an epoch")
        keys = self._keys(session_id)
        answer = await self._line.ask_script("claim", keys, epoch, secrets.token_hex(8), self._ttl_s)
        if answer == TAKEN:
            raise errors.TakenOver()
        for older in self._writers.get(session_id, ()):
            if older.epoch < epoch:
                older.overtaken()
        _, first, end, snapshot, page = answer
        events: list[Event] = []
        while True:
            events += (orjson.loads(payload) for _, (kind, payload) in page if kind == b"e")
            if len(page) < PAGE:
                break
            page = await self._page(keys, epoch, page[-1][0])
        writer = RedisWriter(
            self._line,
            session_id,
            keys,
            epoch,
            end=int(end),
            ttl_s=self._ttl_s,
            clock=self._clock,
            on_close=lambda writer: self._forget(session_id, writer),
        )
        self._writers.setdefault(session_id, set()).add(writer)
        return Claimed(writer, Past(orjson.loads(snapshot) if snapshot else None, events, int(first), int(end)))

    async def _page(self, keys: Sequence[str], epoch: int, after: bytes) -> Any:
        answer = await self._line.ask_script("events", keys, epoch, after)
        if answer == TAKEN:
            raise errors.TakenOver()
        if answer == LOST:
            raise errors.Unavailable("the live journal was emptied")
        return answer[1]

    async def events(self, session_id: str, after: str) -> tuple[list[Event], str]:
        stream = self._keys(session_id)[2]
        if not after:
            newest = await self._line.ask("XREVRANGE", stream, "+", "-", "COUNT", 1)
            return [], newest[0][0].decode() if newest else _START
        found = await self._line.ask("XRANGE", stream, f"({after}", "+", "COUNT", PAGE)
        if not found:
            return [], after
        return [orjson.loads(payload) for _, (_, payload) in found], found[-1][0].decode()

    async def drop(self, session_id: str) -> None:
        await self._line.ask_script("drop", self._keys(session_id), _DROPPED_S)
        for writer in self._writers.get(session_id, ()):
            writer.overtaken()

    async def sessions(self) -> dict[str, float]:
        try:
            async with asyncio.timeout(_SCAN_S):
                return await self._sessions()
        except (exceptions.RedisError, OSError) as error:
            raise translated(error) from None

    async def _sessions(self) -> dict[str, float]:
        pattern = f"{self._prefix}:{{*}}:held"
        names = [key async for key in self._client.scan_iter(match=pattern, count=_SCAN_COUNT, _type="HASH")]
        seconds, micros = await self._client.time()
        found = {}
        for begin in range(0, len(names), _SCAN_COUNT):
            async with self._client.pipeline(transaction=False) as pipeline:
                for key in names[begin : begin + _SCAN_COUNT]:
                    pipeline.hget(key, "at")
                ages = await pipeline.execute()
            for key, at in zip(names[begin:], ages, strict=False):
                if at is not None:  # else it was dropped
                    session_id = key.decode()[len(self._prefix) + 2 :].partition("}")[0]
                    found[session_id] = max(0.0, seconds + micros / 1e6 - int(at))
        return found

    def _keys(self, session_id: str) -> tuple[str, str, str]:
        if not _ID.fullmatch(session_id):  # ids are ours, never the client's: a wrong one is a bug, not an answer
            raise ValueError("not a session id")
        begin = f"{self._prefix}:{{{session_id}}}"
        return f"{begin}:held", f"{begin}:audio", f"{begin}:events"

    def _forget(self, session_id: str, writer: RedisWriter) -> None:
        writers = self._writers.get(session_id, set())
        writers.discard(writer)
        if not writers:
            self._writers.pop(session_id, None)

    async def _look_around(self) -> None:
        """For ever: asks who holds the sessions of which nothing was heard lately."""
        while True:
            await self._clock.sleep(self._look_s)
            writers = [one for those in self._writers.values() for one in those if one.silent_for(self._look_s / 2)]
            for told in await asyncio.gather(*(writer.look() for writer in writers), return_exceptions=True):
                if isinstance(told, Exception) and not isinstance(told, errors.CosyGateError):
                    _log.error("live.journal_crashed", exc_info=told)  # else Redis is away: nothing was heard
