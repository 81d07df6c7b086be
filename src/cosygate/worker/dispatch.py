"""Claims jobs while there is room, and runs each as a task of the event loop.

When nothing is queued it waits for a hint, and looks by itself twice a second, so a lost hint costs half a second and
never a job.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import Protocol

from cosygate import errors
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.transcribe import Transcribe
from cosygate.kit.backoff import Backoff
from cosygate.kit.clock import Clock, Randomness
from cosygate.kit.logs import logger
from cosygate.model.job import Claim
from cosygate.model.principal import tenant_of
from cosygate.ports.queue import Queue

_log = logger()
LOOK_EVERY_S = 0.5  # with the outbox's two looks a second: four in all when idle
_AHEAD_S = 1.0  # beyond which a job gains next to nothing by being decoded before it has a slot
_LAST_CLAIM_S = 5.0  # how long a claim may take that is under way when the process is to end
_LEARN = 0.1  # what one job changes of what is usual


class Line(Protocol):
    """Who counts what waits, and is told what waits no more (flows/admission.py)."""

    def mark(self) -> int: ...

    def claimed(self, tenant: str, seconds: float, mark: int) -> None: ...


class Nobody:
    """A worker's process lets nobody in, so it counts nobody."""

    def mark(self) -> int:
        return 0

    def claimed(self, tenant: str, seconds: float, mark: int) -> None:
        pass


class Dispatcher:
    def __init__(
        self,
        transcribe: Transcribe,
        engines: EngineRoom,
        queue: Queue,
        line: Line,
        clock: Clock,
        randomness: Randomness,
        *,
        claimant: str,
        jobs: int,
        runners: int = 1,
        priorities: tuple[int, int] | None = None,
    ) -> None:
        """`jobs`: how many at once; 0 follows the engines' slots, of which this one of `runners` takes its share, with
        one more to be decoded meanwhile while jobs are short: one that only waits for a slot is better left to be
        claimed, as it would take that slot from whoever comes first then. `priorities`: the lowest and the highest
        number that it takes; None: any."""
        self._transcribe = transcribe
        self._engines = engines
        self._queue = queue
        self._line = line
        self._clock = clock
        self._randomness = randomness
        self._claimant = claimant
        self._jobs = jobs
        self._runners = runners
        self._priorities = priorities
        self._backoff = Backoff(first_s=0.2, longest_s=5.0)
        self._usual_s = 0.0  # that jobs took lately
        self._running: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()
        self._hinted: deque[asyncio.Future[asyncio.Task[None] | None]] = deque()
        self._stopping = False

    async def run(self) -> None:
        """For ever."""
        failures = 0
        while True:
            try:
                await self._engines.refresh()
                pause_s = self._engines.pause_s() if self._engines.slots() else LOOK_EVERY_S
                if pause_s > 0:
                    # Every job would be handed back at once: they wait better where they are.
                    await self._clock.sleep(min(pause_s, LOOK_EVERY_S))
                    continue
                asked, seen = len(self._hinted), self._line.mark()
                claim = await self._claim()
                failures = 0
            except Exception as error:  # whatever it was: a runner that gave up would leave every job waiting for ever
                if isinstance(error, errors.Unavailable):
                    _log.warning("runner.claim_failed", code=error.code)
                else:
                    _log.exception("runner.claim_crashed")
                await self._clock.sleep(self._backoff.delay(failures, self._randomness))
                failures += 1
                continue
            if claim is None:
                for _ in range(asked):  # not those who came while we looked
                    self._answer(None)
                await self._queue.wait(LOOK_EVERY_S)
                continue
            self._line.claimed(tenant_of(claim.job.owner), claim.job.cost_s, seen)
            self._answer(self._begin(claim))
            while len(self._running) >= self._limit():
                self._room.clear()
                await self._room.wait()

    async def hinted(self) -> bool:
        """Somebody was told that there may be work: waits until there is room and it was looked for, and, if there was
        some, until the job that was found has ended. False: nobody's job was left. Cancelling it stops no job."""
        if self._stopping:
            return False
        answer: asyncio.Future[asyncio.Task[None] | None] = asyncio.get_running_loop().create_future()
        self._hinted.append(answer)
        await self._queue.hint("")
        job = await answer
        if job is None:
            return False
        await asyncio.wait({job})
        return True

    async def stop(self, grace_s: float) -> None:
        """After `run` was cancelled: jobs get `grace_s` seconds to finish, the others are handed back."""
        self._stopping = True
        while self._hinted:
            self._answer(None)
        if self._running:
            await asyncio.wait(self._running, timeout=grace_s)
        for job in self._running:
            job.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def idle(self) -> None:
        """Once no job runs."""
        while self._running:
            await asyncio.wait(self._running)

    def busy(self) -> int:
        """Jobs that run now."""
        return len(self._running)

    async def _claim(self) -> Claim | None:
        """A claim that is under way when this process is to end may be made all the same: then it is given back."""
        claiming = asyncio.create_task(self._transcribe.claim(self._claimant, self._priorities))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            await asyncio.wait({claiming}, timeout=_LAST_CLAIM_S)
            if claiming.done() and not claiming.exception() and (claim := claiming.result()) is not None:
                await self._transcribe.hand_back(claim)
            raise

    def _answer(self, job: asyncio.Task[None] | None) -> None:
        while self._hinted:
            answer = self._hinted.popleft()
            if not answer.done():  # its caller was cancelled
                answer.set_result(job)
                return

    def _limit(self) -> int:
        ahead = 1 if self._usual_s < _AHEAD_S else 0
        return self._jobs or max(1, math.ceil((self._engines.slots() + ahead) / self._runners))

    def _begin(self, claim: Claim) -> asyncio.Task[None]:
        job, began = asyncio.create_task(self._transcribe.run(claim)), self._clock.monotonic()
        self._running.add(job)
        job.add_done_callback(lambda job: self._ended(job, self._clock.monotonic() - began))
        return job

    def _ended(self, job: asyncio.Task[None], took_s: float) -> None:
        self._running.discard(job)
        self._usual_s += _LEARN * (took_s - self._usual_s)
        self._room.set()
        if not job.cancelled() and (error := job.exception()):
            _log.error("runner.job_crashed", exc_info=error)  # its lease expires, and it is run again
