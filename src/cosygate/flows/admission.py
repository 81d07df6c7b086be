"""How much audio may wait for the engines: what is new is refused while the queue is full, before its body is read.

    waiting, as this process sees it = what the table said last
                                     + queued here since          (every one)
                                     - claimed here since         (those that the table surely counted)
                                     + holds: recordings whose first chunk is on its way in
                                     + coming: what has arrived of recordings that are not whole yet

The table is read in the background while anybody asks, at most every 50 ms, and less often when it is so long that a
look takes more than 2.5 ms: then 20 times as long lies between two, 0.5 s at most. Nobody waits for a look unless
nothing was heard for a second (or for 0.7 s, by who would be refused). In doubt the view counts too much: two
recordings never get the same last place in one process. What other processes take between two looks is not seen, nor
what is coming to them: that may come on top of the bound, and so may what a recording grows by that is coming.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from dataclasses import dataclass

from cosygate import errors
from cosygate.flows.holds import Coming, Hold, Holds, Line, Sums
from cosygate.kit.clock import Clock, Randomness
from cosygate.kit.logs import logger
from cosygate.model.cost import LEAST_S
from cosygate.ports.records import Depth, QueueDepth

_log = logger()
_EVERY_S = 0.05  # between looks at the table, while somebody asks
_PAUSE, _PAUSE_S = 20.0, 0.5  # and so many times as long as the last look took, up to this: long queues cost no more
_STALE_S = 1.0  # then it is waited for
JUST_NOW_S = 0.7  # or already then, before anybody is refused; longer than a pause: under load nobody waits
_PATIENCE_S = 0.25  # but not longer, counted from when it began: a table that hangs holds up nobody who comes later
_UNDECLARED = 256 * 1024  # bytes of a first chunk that does not say its size
_FIRST_RATE = 32_000.0  # bytes of a second of audio, before any recording was seen
_RATES = (1_000.0, 384_000.0)
_LEARN = 0.05  # what one recording changes of that
_HOLD_MOST_S = 300.0  # of audio, that one hold stands for
_COMING_MOST = 0.125  # of the bound, that one recording stands for while it comes; or as much as a hold
_DRAIN_S = 30.0  # over so much time the speed is measured with which the queue is worked off
_MEASURE_EVERY_S = 2.0  # where the table has to tell that speed
_MEASURED, _MEASURED_S = 100, 120.0  # by so many jobs that ended last, none longer ago than this
_SHORTEST_S, _LONGEST_S = 1.0, 300.0  # what Retry-After says


@dataclass(frozen=True, slots=True)
class QueueLimits:
    max_s: float  # seconds of audio that may wait
    tenant_share: float  # of it, of one tenant
    low_share: float  # of it, beyond which nothing of low priority is taken


class Drain:
    """With how many seconds of audio per second the queue is worked off, by what this process claims."""

    def __init__(self, clock: Clock, processes: int) -> None:
        self._clock = clock
        self._processes = processes
        self._rate = 0.0
        self._at: float | None = None

    async def look(self) -> None:
        """There is nobody to ask."""

    def claimed(self, seconds: float) -> None:
        now = self._clock.monotonic()
        self._rate = self._faded(now) + seconds / _DRAIN_S
        self._at = now

    def rate(self) -> float:
        return self._faded(self._clock.monotonic()) * self._processes

    def _faded(self, now: float) -> float:
        return self._rate * math.exp((self._at - now) / _DRAIN_S) if self._at is not None else 0.0


class DrainElsewhere:
    """The same where processes claim that this one sees nothing of: by the jobs that ended last, as the table tells.
    The first of them says only since when."""

    def __init__(self, depth: QueueDepth, clock: Clock) -> None:
        self._depth = depth
        self._clock = clock
        self._seconds = 0.0
        self._since = 0.0
        self._next_at = -math.inf

    async def look(self) -> None:
        """At the table, when it is time. Raises Unavailable."""
        if self._clock.monotonic() < self._next_at:
            return
        self._next_at = self._clock.monotonic() + _MEASURE_EVERY_S
        now = self._clock.now()
        ended = await self._depth.ended(now - _MEASURED_S, _MEASURED)
        self._seconds = sum(job.seconds for job in ended[:-1])
        if ended:
            self._since = self._clock.monotonic() - (now - ended[-1].at)

    def claimed(self, seconds: float) -> None:
        """It is in the table when it has ended."""

    def rate(self) -> float:
        """Between two looks it fades."""
        return self._seconds / max(1.0, self._clock.monotonic() - self._since)


class Admission(Line):
    def __init__(
        self,
        depth: QueueDepth,
        clock: Clock,
        randomness: Randomness,
        limits: QueueLimits,
        *,
        processes: int = 1,
        elsewhere: bool = False,
    ) -> None:
        """`processes`: gateways that claim from the same queue. `elsewhere`: others do, on any number of hosts."""
        self._depth = depth
        self._clock = clock
        self._randomness = randomness
        self._limits = limits
        self._drain = DrainElsewhere(depth, clock) if elsewhere else Drain(clock, processes)
        self._waiting = Sums()  # as far as this process sees, without holds
        self._holds = Holds()
        self._coming = Coming()
        self._coming_most_s = max(_HOLD_MOST_S, _COMING_MOST * limits.max_s)
        self._since: defaultdict[str, float] = defaultdict(float)  # queued here since the look that is under way began
        self._look: asyncio.Task[None] | None = None
        self._looked_at = -math.inf  # when the last look ended, whatever came of it
        self._next_at = -math.inf
        self._wait_until = -math.inf  # for the look that is under way
        self._looks = 0
        self._blind = False
        self._rate = _FIRST_RATE

    # --- what new recordings are told ---------------------------------------------------------------------------

    async def look(self, stale_s: float = _STALE_S) -> None:
        """Must be awaited before `refusal`. Takes no time, unless nothing was heard of the table for `stale_s`."""
        now = self._clock.monotonic()
        if self._look is None and now >= self._next_at:
            self._look = asyncio.create_task(self._read())
            self._wait_until = now + _PATIENCE_S
        if self._look is not None and now - self._looked_at > stale_s and now < self._wait_until:
            await asyncio.wait({self._look}, timeout=self._wait_until - now)

    def refusal(self, tenant: str, *, low: bool) -> errors.Unavailable | None:
        """What a new recording would be refused with now. `low`: its priority, as far as known. Between this and
        `hold` nothing may be awaited: the last place would be given twice."""
        now, parts = self._clock.monotonic(), (self._waiting, self._holds.seconds, self._coming.seconds)
        self._holds.expire(now)
        self._coming.expire(now)
        most, total = self._limits.max_s, sum(part.total for part in parts)
        if total >= most:
            return errors.QueueFull(retry_after=self._retry_after(total, most))
        bound = most * self._limits.low_share
        if low and total >= bound:
            detail = "too much audio waits for recordings of low priority to be taken"
            return errors.QueueFull(detail, retry_after=self._retry_after(total, bound))
        mine, share = sum(part[tenant] for part in parts), most * self._limits.tenant_share
        if mine >= share:
            return errors.TenantQueueFull(retry_after=self._retry_after(mine, share, mine / total))
        return None

    def hold(self, tenant: str, size: int | None) -> Hold:
        """Room for one whose first chunk has `size` bytes (None: not declared)."""
        seconds = self._guess_s(_UNDECLARED if size is None else size, _HOLD_MOST_S)
        return self._holds.take(tenant, seconds, self._clock.monotonic())

    def _guess_s(self, size: int, most_s: float) -> float:
        """From others' recordings: however wrong it is, a few of them must not fill an empty queue."""
        return min(max(LEAST_S, size / self._rate), most_s)

    def _retry_after(self, waiting_s: float, bound_s: float, part: float = 1.0) -> int:
        """Seconds until a fiftieth of the bound is likely to be free, and up to as many again: not all at once."""
        rate = self._drain.rate() * part
        wait_s = (waiting_s - 0.98 * bound_s) / rate if rate > 0 else _DRAIN_S
        wait_s = min(max(wait_s, _SHORTEST_S), _LONGEST_S / 2)
        return math.ceil(self._randomness.uniform(wait_s, 2 * wait_s))

    # --- what happens to the queue here -------------------------------------------------------------------------

    def arrived(self, upload_id: str, tenant: str, size: int) -> None:
        self._coming.arrived(upload_id, tenant, self._guess_s(size, self._coming_most_s), self._clock.monotonic())

    def gone(self, upload_id: str) -> None:
        self._coming.drop(upload_id)

    def queued(self, upload_id: str, tenant: str, size: int, seconds: float) -> None:
        self._coming.drop(upload_id)
        self._waiting.add(tenant, seconds)
        if self._look is not None:
            self._since[tenant] += seconds
        lowest, highest = _RATES
        self._rate += _LEARN * (min(max(size / seconds, lowest), highest) - self._rate)

    def mark(self) -> int:
        """To be taken before a claim, for `claimed`."""
        return self._looks

    def claimed(self, tenant: str, seconds: float, mark: int) -> None:
        """A job has left the queue. It is taken off unless the table was read since `mark`: perhaps after the claim."""
        self._drain.claimed(seconds)
        if mark == self._looks:
            self._waiting.add(tenant, -min(seconds, self._waiting[tenant]))

    async def _read(self) -> None:
        """What is queued before a look begins is in the table that it reads; what comes later is added again."""
        began = self._clock.monotonic()
        self._since.clear()
        try:
            self._seen(await self._depth.waiting())
            await self._drain.look()
        except errors.Unavailable as error:
            self._see(False, error.code)
        except Exception:
            _log.exception("queue.depth_crashed")
        finally:
            self._looked_at = self._clock.monotonic()
            self._next_at = max(began + _EVERY_S, self._looked_at + min(_PAUSE * (self._looked_at - began), _PAUSE_S))
            self._look = None

    def _seen(self, depth: Depth) -> None:
        self._see(True)
        self._waiting = Sums({tenant: waiting.seconds for tenant, waiting in depth.tenants.items()})
        for tenant, seconds in self._since.items():
            self._waiting.add(tenant, seconds)
        self._looks += 1

    def _see(self, seen: bool, code: str = "") -> None:
        """The old view is kept while the table cannot be read, with what happens here: it bounds this process."""
        if seen == self._blind:
            self._blind = not seen
            if self._blind:
                _log.warning("queue.depth_unknown", code=code)
            else:
                _log.info("queue.depth_known")
