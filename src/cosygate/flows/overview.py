"""The operator's view: everything that is asked of several places, at once, and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cosygate.flows.readiness import Readiness
from cosygate.flows.switchboard import Switchboard
from cosygate.kit.clock import Clock
from cosygate.model.overview import DeadLetter, EngineSeen, OverviewSeen, QueueSeen, TenantUse


@dataclass(frozen=True, slots=True)
class Overview:
    """Each source answers with at most as many rows as it is asked for."""

    version: str
    clock: Clock
    readiness: Readiness
    switchboard: Switchboard
    queue: Callable[[int], Awaitable[QueueSeen]]
    engines: Callable[[], Awaitable[list[EngineSeen]]]
    live_sessions: Callable[[], Awaitable[int]]
    usage: Callable[[int], Awaitable[list[TenantUse]]]
    dead: Callable[[int], Awaitable[tuple[int, list[DeadLetter]]]]
    rows: int = 50

    async def now(self) -> OverviewSeen:
        """Raises DatabaseBusy."""
        reasons, queue, engines, sessions, usage, (dead_count, dead) = await asyncio.gather(
            self.readiness.reasons(),
            self.queue(self.rows),
            self.engines(),
            self.live_sessions(),
            self.usage(self.rows),
            self.dead(self.rows),
        )
        return OverviewSeen(
            version=self.version,
            at=self.clock.now(),
            reasons=reasons,
            drained_since=self.switchboard.drained_since,
            queue=queue,
            engines=engines,
            live_sessions=sessions,
            usage=usage,
            dead_count=dead_count,
            dead=dead,
        )
