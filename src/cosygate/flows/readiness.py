"""Whether this process can take work, and if not, why; and how much work there is.

Never an engine's fault: uploads are taken and kept until one is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from cosygate import errors
from cosygate.flows.choose_engine import EngineRoom
from cosygate.kit import metrics
from cosygate.kit.breaker import Phase
from cosygate.kit.clock import Clock
from cosygate.ports.blobs import StoreSurvey
from cosygate.ports.records import QueueDepth, RecordsHealth

_LEVELS = {Phase.CLOSED: 0, Phase.HALF_OPEN: 1, Phase.OPEN: 2}
_FRESH_S = 1.0  # one real look a second, however many ask


class Readiness:
    def __init__(
        self, health: RecordsHealth, survey: StoreSurvey, clock: Clock, drained: Callable[[], bool] = lambda: False
    ) -> None:
        """`drained`: whether an operator has told the whole service to take nothing new."""
        self._health = health
        self._survey = survey
        self._drained = drained
        self._clock = clock
        self._looked_at = float("-inf")
        self._found: list[str] = []
        self._looking = asyncio.Lock()
        self.draining = False  # set once, when the process was told to stop
        self.started = False  # set once, when start-up is over

    async def reasons(self) -> list[str]:
        """Empty when ready; else any of starting, draining, database, storage."""
        async with self._looking:  # who comes during a look waits for what it finds
            if self._clock.monotonic() - self._looked_at >= _FRESH_S:
                self._found = await self._look()
                self._looked_at = self._clock.monotonic()
        draining = self.draining or self._drained()
        return [*(["starting"] if not self.started else []), *(["draining"] if draining else []), *self._found]

    async def _look(self) -> list[str]:
        found = []
        try:
            await self._health.check()
        except errors.Unavailable:
            found.append("database")
        try:
            await self._survey.check_room()
        except errors.Unavailable:  # full, or not to be used at all
            found.append("storage")
        return found


async def measure(depth: QueueDepth, survey: StoreSurvey, engines: EngineRoom, now: float) -> None:
    """Sets the gauges that tell of this moment; asked when somebody looks. What cannot be had keeps its last value."""
    with suppress(errors.Unavailable):  # the scrape still tells everything else, and /readyz tells of the database
        waiting = await depth.waiting()
        metrics.engine_queue.set(waiting.jobs)
        metrics.engine_queue_seconds.set(waiting.seconds)
        metrics.engine_queue_age.set(0.0 if waiting.oldest_at is None else max(0.0, now - waiting.oldest_at))
    with suppress(errors.Unavailable):
        metrics.store_used.set(await survey.used_bytes())
        metrics.store_free.set(await survey.free_bytes())
    await engines.refresh(force=True)
    metrics.engine_slots.labels("busy").set(engines.busy())
    metrics.engine_slots.labels("total").set(engines.slots())
    for engine in engines.status():
        metrics.breaker_state.labels(engine.key).set(_LEVELS[engine.breaker])
