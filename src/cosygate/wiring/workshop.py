"""A worker's process, put together: it runs jobs, and lets nobody in."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cosygate.adapters.queue_local import LocalQueue
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.housekeeping import Reaper
from cosygate.flows.transcribe import Transcribe
from cosygate.kit.clock import Clock, Randomness
from cosygate.ports.queue import Queue
from cosygate.settings import Settings
from cosygate.wiring.core import open_core
from cosygate.wiring.telling import begin_telling


@dataclass(frozen=True, slots=True)
class Workshop:
    transcribe: Transcribe
    engines: EngineRoom
    reaper: Reaper
    queue: Queue
    clock: Clock
    randomness: Randomness
    claimant: str  # new in each life: what an earlier one held is the reaper's


@asynccontextmanager
async def open_workshop(settings: Settings, index: int, breakers: Path | None) -> AsyncIterator[Workshop]:
    """`index`: which of this host's worker processes this is; `breakers`: the folder of the breakers that they share,
    where there is no Redis. Raises ValueError, DatabaseBusy."""
    async with AsyncExitStack() as stack:
        core = await open_core(
            settings, (), breakers, stack, index=index, processes=settings.worker_processes, jobs=settings.worker_jobs
        )
        begin_telling(core.clock.now(), settings.queue_max_s)
        yield Workshop(
            transcribe=core.transcribe,
            engines=core.engines,
            reaper=core.reaper,
            queue=LocalQueue(),
            clock=core.clock,
            randomness=core.randomness,
            claimant=f"{socket.gethostname()}/{index}/{core.randomness.token(6).hex()}",
        )
