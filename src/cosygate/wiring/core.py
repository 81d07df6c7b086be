"""What a process that runs jobs has, be it a gateway or a worker: records, blobs, decoder, engines, and the flow."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cosygate.adapters.decoder_pcm import PcmDecoder
from cosygate.adapters.decoder_sandbox.decoder import SandboxDecoder
from cosygate.adapters.records_sql import SqlRecords
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.housekeeping import Reaper
from cosygate.flows.transcribe import Transcribe
from cosygate.kit.clock import Clock, Randomness, SystemClock, SystemRandomness
from cosygate.model.audio import AudioLimits
from cosygate.settings import Settings
from cosygate.wiring import stores
from cosygate.wiring.engines import engine_room
from cosygate.wiring.secrets import jwt_secret

if TYPE_CHECKING:
    from redis.asyncio import Redis


@dataclass(frozen=True, slots=True)
class Core:
    clock: Clock
    randomness: Randomness
    secret: str
    store: stores.Store
    records: SqlRecords
    sandbox: SandboxDecoder
    redis: Redis | None
    engines: EngineRoom
    transcribe: Transcribe
    reaper: Reaper


async def open_core(
    settings: Settings,
    engine_addresses: Sequence[str],
    breakers: Path | None,
    stack: AsyncExitStack,
    *,
    index: int,
    processes: int,
    jobs: int,
) -> Core:
    """Opens adapters in this order; `stack` closes them in the reverse one. `index`: which of this host's `processes`
    this is; `jobs`: how many it runs at once, 0: as many as the engines have slots. Raises ValueError for what the
    operator has to mend."""
    clock, randomness = SystemClock(), SystemRandomness()
    secret = jwt_secret(settings)
    redis = None
    if settings.redis_url:
        from cosygate.wiring.redis import client

        redis = client(settings.redis_url, settings.redis_pool)
        stack.push_async_callback(redis.aclose)
    store = await stack.enter_async_context(stores.store(settings, clock))
    records = await stores.records(settings)
    stack.push_async_callback(records.close)
    sandbox = await stack.enter_async_context(stores.sandbox(settings, clock, randomness, jobs=jobs))
    board = None
    if redis is not None and not engine_addresses:  # engines that `serve` starts are this host's, and have its names
        from cosygate.adapters.breaker_redis import RedisBreakers

        board = RedisBreakers(redis, clock, randomness)
        board.start()
        stack.push_async_callback(board.close)
    engines = engine_room(settings, engine_addresses, breakers, clock, randomness, stack, index=index, board=board)
    transcribe = Transcribe(
        leases=records.leases,
        events=records.events,
        parts=store.parts,
        files=store.recordings,
        results=store.results,
        decoder=PcmDecoder(otherwise=sandbox),
        engines=engines,
        clock=clock,
        randomness=randomness,
        audio_limits=AudioLimits(seconds=settings.recording_max_s),
        renew_s=settings.lease_renew_s,
        engine_idle_s=settings.engine_idle_s,
        gateways=processes,
    )
    reaper = Reaper(records.leases, clock, settings.lease_expire_s)
    return Core(clock, randomness, secret, store, records, sandbox, redis, engines, transcribe, reaper)
