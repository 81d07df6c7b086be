"""What runs jobs: the embedded runner inside each gateway process. (A Celery worker will call the same flow.)

One dispatcher claims while there is room and starts a task per job; when nothing is queued it waits for a hint, and
looks by itself twice a second, so a lost hint costs half a second and never a job.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from cosygate import errors
from cosygate.flows import housekeeping
from cosygate.flows.webhooks import LOOK_EVERY_S
from cosygate.kit import vitals
from cosygate.kit.backoff import Backoff
from cosygate.kit.logs import logger
from cosygate.model.job import Claim
from cosygate.model.principal import tenant_of
from cosygate.wiring import House

_log = logger()
_LOOK_EVERY_S = 0.5  # with the outbox's two looks a second: four in all when idle
_RELAY_EVERY_S = 0.5
_SWITCHES_EVERY_S = 1.0
MOST_RUNNERS = 64  # as many as the setting `workers` allows
_AHEAD_S = 1.0  # beyond which a job gains next to nothing by being decoded before it has a slot
_LEARN = 0.1  # what one job changes of what is usual
_SWEEP_EVERY_S = 3600.0  # it looks at every stored upload, and what it finds hurts nobody meanwhile


def claimant(index: int) -> str:
    """The name under which the embedded runner number `index` claims jobs, in every life of its process."""
    return f"embedded/{index}"


class Runner:
    def __init__(self, house: House, *, index: int, jobs: int, runners: int = 1) -> None:
        """`index` names this process slot and outlives it: a restarted one requeues what its earlier life held.
        `jobs`: how many at once; 0 follows the engines' slots, of which this one of `runners` takes its share, with one
        more to be decoded meanwhile while jobs are short: one that only waits for a slot is better left to be claimed,
        as it would take that slot from whoever comes first then."""
        self._house = house
        self._claimant = claimant(index)
        self._jobs = jobs
        self._runners = runners
        self._backoff = Backoff(first_s=0.2, longest_s=5.0)
        self._usual_s = 0.0  # that jobs took lately
        self._running: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []

    async def start(self, *, first: bool) -> None:
        """Recovers and begins. `first`: this process also mends what a crash left between bytes and rows."""
        mine = [self._claimant]
        if first:  # and those of processes that this start has no more: it was begun with fewer
            mine += [claimant(n) for n in range(self._runners, MOST_RUNNERS)]
        for earlier in mine:
            await housekeeping.recover(self._house.leases, earlier, self._house.clock)
        keep = self._house.housekeeping
        self._loops = [
            # Beside everything else: with many open uploads it takes long, and none of them waits for it.
            *([asyncio.create_task(self._guarded(keep.reconcile))] if first else []),
            *([asyncio.create_task(self._every(_SWEEP_EVERY_S, keep.sweep_orphans))] if first else []),
            *([asyncio.create_task(self._every(_SWEEP_EVERY_S, self._house.live_keeper.sweep))] if first else []),
            asyncio.create_task(self._dispatch()),
            asyncio.create_task(self._every(_RELAY_EVERY_S, self._relay)),
            asyncio.create_task(self._every(LOOK_EVERY_S, self._house.sender.look)),
            asyncio.create_task(self._every(_SWITCHES_EVERY_S, self._house.switchboard.look)),
            asyncio.create_task(self._every(_SWITCHES_EVERY_S, self._house.quotas.look)),
            asyncio.create_task(self._every(vitals.EVERY_S, vitals.Vitals(self._house.clock).look)),
            asyncio.create_task(self._every(self._house.reaper_every_s, self._house.reaper.round)),
            asyncio.create_task(self._every(self._house.housekeeping_every_s, keep.round)),
        ]

    async def stop(self, grace_s: float) -> None:
        """Claims nothing more; jobs get `grace_s` seconds to finish, the others are handed back."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        sending = asyncio.create_task(self._house.sender.stop(grace_s))
        if self._running:
            await asyncio.wait(self._running, timeout=grace_s)
        for job in self._running:
            job.cancel()
        await asyncio.gather(*self._running, sending, return_exceptions=True)

    def _limit(self) -> int:
        ahead = 1 if self._usual_s < _AHEAD_S else 0
        return self._jobs or max(1, math.ceil((self._house.engines.slots() + ahead) / self._runners))

    async def _dispatch(self) -> None:
        failures = 0
        while True:
            try:
                await self._house.engines.refresh()
                if (pause_s := self._house.engines.pause_s()) > 0:
                    # Every job would be handed back at once: they wait better where they are.
                    await self._house.clock.sleep(min(pause_s, _LOOK_EVERY_S))
                    continue
                seen = self._house.admission.mark()
                claim = await self._house.transcribe.claim(self._claimant)
                failures = 0
            except Exception as error:  # whatever it was: a runner that gave up would leave every job waiting for ever
                if isinstance(error, errors.Unavailable):
                    _log.warning("runner.claim_failed", code=error.code)
                else:
                    _log.exception("runner.claim_crashed")
                await self._house.clock.sleep(self._backoff.delay(failures, self._house.randomness))
                failures += 1
                continue
            if claim is None:
                await self._house.queue.wait(_LOOK_EVERY_S)
                continue
            self._house.admission.claimed(tenant_of(claim.job.owner), claim.job.cost_s, seen)
            self._begin(claim)
            while len(self._running) >= self._limit():
                self._room.clear()
                await self._room.wait()

    def _begin(self, claim: Claim) -> None:
        job, began = asyncio.create_task(self._house.transcribe.run(claim)), self._house.clock.monotonic()
        self._running.add(job)
        job.add_done_callback(lambda job: self._ended(job, self._house.clock.monotonic() - began))

    def _ended(self, job: asyncio.Task[None], took_s: float) -> None:
        self._running.discard(job)
        self._usual_s += _LEARN * (took_s - self._usual_s)
        self._room.set()
        if not job.cancelled() and (error := job.exception()):
            _log.error("runner.job_crashed", exc_info=error)  # its lease expires, and it is run again

    async def _relay(self) -> int:
        return await housekeeping.relay(self._house.outbox, self._house.queue)

    async def _every(self, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        while True:
            await self._house.clock.sleep(seconds)
            await self._guarded(work)

    async def _guarded(self, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except errors.Unavailable as error:
            _log.warning("housekeeping.put_off", code=error.code)
        except Exception:
            _log.exception("housekeeping.crashed")
