"""How much audio may wait for the engines: what is new is refused while the queue is full, before its body is read.

    waiting, as this process sees it = what the table said last
                                     + queued here since          (every one)
                                     - claimed here since         (those that the table surely counted)
                                     + holds: recordings whose first chunk is on its way in

The table is read in the background while anybody asks, at most every 50 ms; nobody waits for it unless nothing was
heard for a second (or for 0.1 s, by who would be refused). In doubt the view counts too much: two recordings never get
the same last place in one process. What other processes take between two looks is not seen, so their admissions of
50 ms may come on top of the bound.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from cosygate import errors
from cosygate.kit.clock import Clock, Randomness
from cosygate.kit.logs import logger
from cosygate.model.cost import LEAST_S
from cosygate.ports.records import QueueDepth

_log = logger()
_EVERY_S = 0.05  # between looks at the table, while somebody asks
_PAUSE, _PAUSE_S = 20.0, 0.5  # and so many times as long as the last look took, up to this: long queues cost no more
_STALE_S = 1.0  # then it is waited for
JUST_NOW_S = 0.1  # or already then, before anybody is refused
_PATIENCE_S = 0.25  # but not longer
_HOLD_S = 30.0  # a first chunk that takes longer holds no room: slow senders could keep all others out
_HOLDS = 10_000
_UNDECLARED = 256 * 1024  # bytes of a first chunk that does not say its size
_FIRST_RATE = 32_000.0  # bytes of a second of audio, before any recording was seen
_RATES = (1_000.0, 384_000.0)
_LEARN = 0.05  # what one recording changes of that
_HOLD_MOST_S = 300.0  # of audio, that one hold stands for
_DRAIN_S = 30.0  # over so much time the speed is measured with which the queue is worked off
_SHORTEST_S, _LONGEST_S = 1.0, 300.0  # what Retry-After says


@dataclass(frozen=True, slots=True)
class QueueLimits:
    max_s: float  # seconds of audio that may wait
    tenant_share: float  # of it, of one tenant
    low_share: float  # of it, beyond which nothing of low priority is taken


class Hold:
    """Room in the queue for a recording that is on its way in."""

    __slots__ = ("_book", "seconds", "tenant", "until")

    def __init__(self, book: Holds, tenant: str, seconds: float, until: float) -> None:
        self._book = book
        self.tenant = tenant
        self.seconds = seconds
        self.until = until

    def close(self) -> None:
        """The recording is a job by now, or will not become one. May be called twice."""
        self._book.drop(self)


class Holds:
    """Those that are open, oldest first; at most _HOLDS of them, each for at most _HOLD_S."""

    def __init__(self) -> None:
        self._open: OrderedDict[int, Hold] = OrderedDict()
        self.seconds = _Sums()

    def take(self, tenant: str, seconds: float, now: float) -> Hold:
        if len(self._open) >= _HOLDS:
            self.drop(next(iter(self._open.values())))
        hold = Hold(self, tenant, seconds, now + _HOLD_S)
        self._open[id(hold)] = hold
        self.seconds.add(tenant, seconds)
        return hold

    def drop(self, hold: Hold) -> None:
        if self._open.get(id(hold)) is hold:
            del self._open[id(hold)]
            self.seconds.add(hold.tenant, -hold.seconds)

    def expire(self, now: float) -> None:
        while self._open and (oldest := next(iter(self._open.values()))).until <= now:
            self.drop(oldest)


class _Sums:
    """Seconds of audio by tenant, and in all. Those at nothing are forgotten."""

    def __init__(self, of: Mapping[str, float] | None = None) -> None:
        self._of = dict(of or {})
        self.total = sum(self._of.values())

    def __getitem__(self, tenant: str) -> float:
        return self._of.get(tenant, 0.0)

    def add(self, tenant: str, seconds: float) -> None:
        left = self[tenant] + seconds
        if left > 1e-9:
            self._of[tenant] = left
        else:
            self._of.pop(tenant, None)
        self.total = self.total + seconds if self._of else 0.0


class Drain:
    """With how many seconds of audio per second the queue is worked off, by what this process claims."""

    def __init__(self, clock: Clock, processes: int) -> None:
        self._clock = clock
        self._processes = processes
        self._rate = 0.0
        self._at: float | None = None

    def claimed(self, seconds: float) -> None:
        now = self._clock.monotonic()
        self._rate = self._faded(now) + seconds / _DRAIN_S
        self._at = now

    def rate(self) -> float:
        return self._faded(self._clock.monotonic()) * self._processes

    def _faded(self, now: float) -> float:
        return self._rate * math.exp((self._at - now) / _DRAIN_S) if self._at is not None else 0.0


class Admission:
    def __init__(
        self, depth: QueueDepth, clock: Clock, randomness: Randomness, limits: QueueLimits, *, processes: int = 1
    ) -> None:
        """`processes`: gateways that claim from the same queue."""
        self._depth = depth
        self._clock = clock
        self._randomness = randomness
        self._limits = limits
        self._drain = Drain(clock, processes)
        self._waiting = _Sums()  # as far as this process sees, without holds
        self._holds = Holds()
        self._since: defaultdict[str, float] = defaultdict(float)  # queued here since the look that is under way began
        self._look: asyncio.Task[None] | None = None
        self._looked_at = -math.inf  # when the last look ended, whatever came of it
        self._next_at = -math.inf
        self._looks = 0
        self._blind = False
        self._rate = _FIRST_RATE

    # --- what new recordings are told ---------------------------------------------------------------------------

    async def look(self, stale_s: float = _STALE_S) -> None:
        """Must be awaited before `refusal`. Takes no time, unless nothing was heard of the table for `stale_s`."""
        now = self._clock.monotonic()
        if self._look is None and now >= self._next_at:
            self._look = asyncio.create_task(self._read())
        if self._look is not None and now - self._looked_at > stale_s:
            await asyncio.wait({self._look}, timeout=_PATIENCE_S)

    def refusal(self, tenant: str, *, low: bool) -> errors.Unavailable | None:
        """What a new recording would be refused with now. `low`: its priority, as far as known. Between this and
        `hold` nothing may be awaited: the last place would be given twice."""
        self._holds.expire(self._clock.monotonic())
        most, total = self._limits.max_s, self._waiting.total + self._holds.seconds.total
        if total >= most:
            return errors.QueueFull(retry_after=self._retry_after(total, most))
        bound = most * self._limits.low_share
        if low and total >= bound:
            detail = "too much audio waits for recordings of low priority to be taken"
            return errors.QueueFull(detail, retry_after=self._retry_after(total, bound))
        mine, share = self._waiting[tenant] + self._holds.seconds[tenant], most * self._limits.tenant_share
        if mine >= share:
            return errors.TenantQueueFull(retry_after=self._retry_after(mine, share, mine / total))
        return None

    def hold(self, tenant: str, size: int | None) -> Hold:
        """Room for one whose first chunk has `size` bytes (None: not declared)."""
        seconds = max(LEAST_S, (_UNDECLARED if size is None else size) / self._rate)
        # A guess from others' recordings: however wrong it is, a few of them must not fill an empty queue.
        seconds = min(seconds, _HOLD_MOST_S)
        return self._holds.take(tenant, seconds, self._clock.monotonic())

    def _retry_after(self, waiting_s: float, bound_s: float, part: float = 1.0) -> int:
        """Seconds until a fiftieth of the bound is likely to be free, and up to as many again: not all at once."""
        rate = self._drain.rate() * part
        wait_s = (waiting_s - 0.98 * bound_s) / rate if rate > 0 else _DRAIN_S
        wait_s = min(max(wait_s, _SHORTEST_S), _LONGEST_S / 2)
        return math.ceil(self._randomness.uniform(wait_s, 2 * wait_s))

    # --- what happens to the queue here -------------------------------------------------------------------------

    def queued(self, tenant: str, size: int, seconds: float) -> None:
        """A recording of `size` bytes has become a job."""
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
            depth = await self._depth.waiting()
        except errors.Unavailable as error:
            self._see(False, error.code)
        except Exception:
            _log.exception("queue.depth_crashed")
        else:
            self._see(True)
            self._waiting = _Sums({tenant: waiting.seconds for tenant, waiting in depth.tenants.items()})
            for tenant, seconds in self._since.items():
                self._waiting.add(tenant, seconds)
            self._looks += 1
        finally:
            self._looked_at = self._clock.monotonic()
            self._next_at = max(began + _EVERY_S, self._looked_at + min(_PAUSE * (self._looked_at - began), _PAUSE_S))
            self._look = None

    def _see(self, seen: bool, code: str = "") -> None:
        """The old view is kept while the table cannot be read, with what happens here: it bounds this process."""
        if seen == self._blind:
            self._blind = not seen
            if self._blind:
                _log.warning("queue.depth_unknown", code=code)
            else:
                _log.info("queue.depth_known")
