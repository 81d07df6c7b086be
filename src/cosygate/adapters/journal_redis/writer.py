"""A `JournalWriter`: one session under one epoch, as this process knows it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from cosygate import errors
from cosygate.adapters.journal_redis.line import ENTRY, Call, Line, settle
from cosygate.adapters.journal_redis.scripts import EARLY, LOST, TAKEN
from cosygate.kit.clock import Clock
from cosygate.kit.logs import logger
from cosygate.ports.journal import Event, Sound

_log = logger()
_READ_BYTES = 1024 * 1024  # in one answer
_TOGETHER = 64 * 1024  # bytes that appends of one session have together, from which on the next goes by itself
_ENTRY_BYTES = 8 * 1024  # to which pieces of audio are joined
_TTL_TURNS = 10  # times that the keys' time to live is set anew in it


class RedisWriter:
    """See the port. `held` is what the last answer, another claim of this process, or a look said (journal.py)."""

    __slots__ = (
        "_answered_at", "_broken", "_clock", "_closed", "_end", "_idle", "_keys", "_line", "_on_close", "_open",
        "_refreshed_at", "_serial", "_session", "_taken", "_together", "_ttl_s", "_unanswered", "epoch",
    )  # fmt: skip

    def __init__(
        self,
        line: Line,
        session: str,
        keys: Sequence[str],
        epoch: int,
        *,
        end: int,
        ttl_s: int,
        clock: Clock,
        on_close: Callable[[RedisWriter], None],
    ) -> None:
        """`end`: of the audio, as the claim found it; `ttl_s`: for how long the keys outlive their last holder."""
        self._line = line
        self._session = session
        self._keys = keys
        self.epoch = epoch
        self._end = end  # of what was appended, answered or not
        self._ttl_s = ttl_s
        self._clock = clock
        self._on_close = on_close
        self._serial = 0  # writes so far
        self._open: Call | None = None  # the last write, when another append may still go with it
        self._together: list[asyncio.Future[None]] = []  # whose appends are in it
        self._unanswered = 0
        self._idle = asyncio.Event()  # nothing is unanswered
        self._idle.set()
        self._answered_at = self._refreshed_at = clock.monotonic()
        self._taken = False
        self._broken: BaseException | None = None  # what is appended from now on must not be stored, either
        self._closed = False

    def append(self, *records: Sound | Event, passing: bool = False) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._line.loop.create_future()
        error = self._refused()
        if error is None:
            try:
                pairs, size, end = self._pairs(records, "p" if passing else "e")
            except (TypeError, ValueError) as mistake:  # the caller's bug: told as all else is
                error = self._broken = mistake
            else:
                if self._line.full(size):
                    self._broken = errors.Unavailable("too much waits to be journalled")
                    error = again(self._broken)
                else:
                    self._end = end
                    self._put(future, size, pairs)
        if error is not None:
            settle(future, None, error)
        return future

    def _pairs(self, records: Sequence[Sound | Event], kind: str) -> tuple[list[Any], int, int]:
        """For the script, with what they count, and where the audio ends then. Raises TypeError, ValueError."""
        pairs: list[Any] = []
        size, end = ENTRY, self._end
        for record in records:
            if isinstance(record, Sound):
                if record.start < end:
                    raise ValueError("audio that overlaps")
                if record.data:
                    end = record.start + len(record.data)
                    size += len(record.data)
                    pairs += continued(pairs, [end, record.data])
            else:
                payload = orjson.dumps(record if type(record) is dict else dict(record))
                size += len(payload)
                pairs += (kind, payload)
        return pairs, size, end

    def _put(self, future: asyncio.Future[None], size: int, pairs: list[Any]) -> None:
        """With the append before, if that has to wait: the slower Redis, the less each costs it."""
        if self._open is not None and not self._open.boarded and self._open.size + size <= _TOGETHER:
            self._line.grow(self._open, size, continued(self._open.words, pairs))
            self._together.append(future)
        else:
            self._together = [future]
            self._open = self._write("append", self._together, size, self._ttl(), *pairs)

    async def read(self, start: int, limit: int) -> bytes:
        self._check()
        if limit <= 0:
            return b""
        behind = start + min(limit, _READ_BYTES)
        answer = await self._line.ask_script("read", self._keys, self.epoch, start, behind)
        if answer == EARLY:
            raise ValueError("audio that is not in the journal any more")
        if (error := self._heard(answer)) is not None:
            raise error
        _, reached, entries = answer
        return joined(start, min(behind, int(reached)), entries)

    async def compact(self, snapshot: Event, keep_from: int) -> None:
        self._check()
        if self._broken is not None:
            raise again(self._broken)
        payload = orjson.dumps(dict(snapshot))
        future: asyncio.Future[None] = self._line.loop.create_future()
        self._open = None  # what is appended from now on is not covered by the snapshot
        self._write("compact", [future], ENTRY + len(payload), payload, max(0, keep_from))
        await future

    def held(self) -> bool:
        return not self._taken and not self._closed

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._on_close(self)
        await self._idle.wait()

    # --- of the journal ---

    def overtaken(self) -> None:
        self._taken = True

    def silent_for(self, seconds: float) -> bool:
        """Whether Redis has said nothing of this session for so long, and somebody wants to know."""
        return self.held() and self._broken is None and self._clock.monotonic() - self._answered_at >= seconds

    async def look(self) -> None:
        """Asks who holds the session, and lets its keys live on. Raises StorageFull, Unavailable: nothing was heard."""
        self._heard(await self._line.ask_script("look", self._keys, self.epoch, self._ttl()))

    # --- within ---

    def _write(self, name: str, futures: list[asyncio.Future[None]], size: int, *args: Any) -> Call:
        self._serial += 1
        self._unanswered += 1
        self._idle.clear()

        def done(answer: Any, error: BaseException | None) -> None:
            self._unanswered -= 1
            if not self._unanswered:
                self._idle.set()
            before = self._broken
            if error is None:
                error = self._heard(answer)
                if error is not None and answer == LOST and before is not None:
                    error = again(before)  # it only lacks the write before it, which failed so
            elif before is None:
                self._broken = error
            for future in futures:
                settle(future, None, again(error) if error is not None else None)

        return self._line.run(name, self._keys, done, size, self.epoch, self._serial, *args)

    def _heard(self, answer: Any) -> BaseException | None:
        """What an answer means: None when all is well."""
        self._answered_at = self._clock.monotonic()
        if answer == TAKEN:
            self._taken = True
            return errors.TakenOver()
        if answer != LOST:
            return None
        if self._broken is None:
            _log.warning("live.journal_emptied", session=self._session)
            self._broken = errors.Unavailable("the live journal was emptied")
        return errors.Unavailable("the live journal was emptied")

    def _refused(self) -> BaseException | None:
        if self._closed:
            return errors.Unavailable("this journal is closed")
        if self._taken:
            return errors.TakenOver()
        return again(self._broken) if self._broken is not None else None

    def _check(self) -> None:
        if self._closed:
            raise errors.Unavailable("this journal is closed")
        if self._taken:
            raise errors.TakenOver()

    def _ttl(self) -> int:
        """Seconds, now and then: else 0, which leaves it."""
        now = self._clock.monotonic()
        if now - self._refreshed_at < self._ttl_s / _TTL_TURNS:
            return 0
        self._refreshed_at = now
        return self._ttl_s


def continued(before: list[Any], pairs: list[Any]) -> list[Any]:
    """What to put behind `before`: `pairs`, whose first, when it is audio that goes on where `before` ends, takes that
    last piece out of there and in. So audio that came in grains does not lie in Redis in as many entries."""
    if len(before) > 1 and pairs:
        (end, data), (new_end, new) = before[-2:], pairs[:2]
        if type(end) is type(new_end) is int and type(data) is bytes:  # else there is an event, or no record at all
            goes_on = new_end - len(new) == end
            if goes_on and len(data) + len(new) <= _ENTRY_BYTES:
                del before[-2:]
                return [new_end, data + new, *pairs[2:]]
    return pairs


def joined(start: int, stop: int, entries: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Bytes [start, stop) of audio entries (id, data), zeros where there is none. Raises Unavailable when they end too
    early."""
    pieces: list[bytes] = []
    at = start
    for number, data in entries:
        if at >= stop:
            break
        begin = int(number.partition(b"-")[0]) - len(data)
        if begin > at:
            pieces.append(bytes(min(begin, stop) - at))
            at = min(begin, stop)
        pieces.append(data[at - begin : stop - begin])
        at += len(pieces[-1])
    if at < stop:
        raise errors.Unavailable("the live journal is damaged")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def again(error: BaseException) -> BaseException:
    """One for each caller: a raised exception keeps its traceback."""
    return type(error)(*error.args)
