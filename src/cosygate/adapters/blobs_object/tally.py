"""How many bytes the store holds, nearly: a store cannot be asked, and listing a million objects takes minutes.

Somebody lists everything every `count_every_s` seconds and leaves the sum in an object; all others read that. Between
two counts each process adds what it stores and erases itself. So the error is what *other* processes have stored or
erased since the last count began (and what was being stored while it was made, which may count twice), and `max_bytes`
may be passed by so much. A count that takes long is made less often.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import suppress

from cosygate import errors
from cosygate.adapters.blobs_object.bucket import Bucket
from cosygate.adapters.blobs_object.ledger import RESULTS, UPLOADS, is_part
from cosygate.kit.clock import Clock
from cosygate.kit.logs import logger

USAGE = "usage"  # the object with the sum
_AT_ONCE = 4  # folders that are listed side by side
_RARELY = 20  # times as long between counts as one takes
_RETRY_S = 30.0  # after one that failed
_MERGED_S = 1.0  # own changes are remembered so finely
_CHANGES = 100_000  # of them

_log = logger()


class Tally:
    def __init__(
        self, bucket: Bucket, clock: Clock, *, max_bytes: int, count_every_s: float, wait_s: float = 2.0
    ) -> None:
        """`wait_s`: how long whoever asks waits for a count that is due, before the sum so far must do."""
        self._bucket = bucket
        self._clock = clock
        self._max = max_bytes
        self._every_s = count_every_s
        self._wait_s = wait_s
        self._counted = 0
        self._changes: deque[list[float]] = deque(maxlen=_CHANGES)  # own ones since the count began: when, bytes
        self._coming = 0  # bytes that are being stored
        self._due_at = float("-inf")  # monotonic
        self._counting: asyncio.Task[None] | None = None

    def used(self) -> int:
        return max(0, self._counted + int(sum(change for _, change in self._changes))) + self._coming

    def left(self) -> int:
        return max(0, self._max - self.used())

    def fits(self, size: int) -> bool:
        return self.used() + size <= self._max

    def check(self, size: int) -> None:
        """Raises StorageFull when `size` more bytes are too many."""
        if not self.fits(size):
            raise errors.StorageFull()

    def take(self, size: int) -> None:
        """Room for what is about to be stored; `stored` or `give_back` ends it. Raises StorageFull."""
        self._count_when_due()
        self.check(size)
        self._coming += size

    def stored(self, size: int) -> None:
        """What was taken is there."""
        self._coming -= size
        self._change(size)

    def give_back(self, size: int) -> None:
        self._coming -= size

    def freed(self, size: int) -> None:
        self._change(-size)

    def _change(self, size: int) -> None:
        now = self._clock.now()
        if self._changes and 0 <= now - self._changes[-1][0] < _MERGED_S:
            self._changes[-1][1] += size
        else:
            self._changes.append([now, size])

    async def fresh(self) -> None:
        """Waits a moment for the count that is due, if one is. One that began before need not have seen the latest."""
        if self._counting is not None:
            await asyncio.wait((self._counting,), timeout=self._wait_s)
        if (counting := self._count_when_due()) is not None:
            await asyncio.wait((counting,), timeout=self._wait_s)

    def _count_when_due(self) -> asyncio.Task[None] | None:
        if self._counting is None and self._clock.monotonic() >= self._due_at:
            self._counting = asyncio.create_task(self._count_or_adopt())
            self._counting.add_done_callback(self._done)
        return self._counting

    def _done(self, counting: asyncio.Task[None]) -> None:
        self._counting = None
        if not counting.cancelled() and (error := counting.exception()) is not None:
            self._due_at = self._clock.monotonic() + _RETRY_S
            code = error.code if isinstance(error, errors.CosyGateError) else "internal"
            _log.warning("storage.not_counted", code=code)

    async def _count_or_adopt(self) -> None:
        if (found := await self._somebodys()) is not None:
            total, began, every_s = found
            while self._changes and self._changes[0][0] < began:
                self._changes.popleft()
            self._counted = total
            self._due_at = self._clock.monotonic() + max(1.0, every_s - (self._clock.now() - began))
            return
        began, started = self._clock.now(), self._clock.monotonic()
        self._counted, self._changes = self.used() - self._coming, deque(maxlen=_CHANGES)
        total = await self._count()
        self._counted = total
        every_s = max(self._every_s, _RARELY * (self._clock.monotonic() - started)) if self._every_s else 0.0
        self._due_at = started + every_s
        if every_s:
            told = {"bytes": total, "began": began, "every_s": every_s}
            await self._bucket.replace(USAGE, json.dumps(told).encode())

    async def _somebodys(self) -> tuple[int, float, float] | None:
        """Bytes, when their count began, and how long it holds; None when it is too old. By the wall clock: machines
        that disagree count more often, or less."""
        if not self._every_s or (data := await self._bucket.get(USAGE)) is None:
            return None
        with suppress(ValueError, KeyError, TypeError):
            told = json.loads(data)
            total, began, every_s = int(told["bytes"]), float(told["began"]), float(told["every_s"])
            if abs(self._clock.now() - began) < every_s:
                return total, began, every_s
        return None

    async def _count(self) -> int:
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(folder: str) -> int:
            async with places:
                total = 0
                async for page in self._bucket.pages(folder):
                    total += sum(f.size for f in page if folder.startswith(RESULTS) or is_part(f.key))
                return total

        shards = [f"{kind}/{name}" for kind in (UPLOADS, RESULTS) for name in await self._bucket.folders(kind)]
        async with asyncio.TaskGroup() as group:
            counts = [group.create_task(one(shard)) for shard in shards]
        return sum(count.result() for count in counts)

    async def close(self) -> None:
        if self._counting is not None:
            self._counting.cancel()
            await asyncio.wait((self._counting,))
