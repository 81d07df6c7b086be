"""The composition root: the only place that chooses technologies, and the only one that imports adapters.

This file puts the house together; the others are its parts: `stores`, `callers`, `guard`, `live`, `secrets`, `limits`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from cosygate import __version__
from cosygate.adapters.decoder_pcm import PcmDecoder
from cosygate.adapters.engine_grpc import GrpcEngine
from cosygate.adapters.queue_local import LocalQueue
from cosygate.adapters.tickets_hmac import HmacTickets
from cosygate.api.app import Doors
from cosygate.api.bodies import BodyPace
from cosygate.api.system import MetricsDoor
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.housekeeping import Housekeeping, Reaper
from cosygate.flows.ingest import Ingest
from cosygate.flows.live.keeping import Keeper
from cosygate.flows.readiness import Readiness, measure
from cosygate.flows.tasks import Tasks
from cosygate.flows.transcribe import Transcribe
from cosygate.kit import metrics
from cosygate.kit.clock import Clock, Randomness, SystemClock, SystemRandomness
from cosygate.model.audio import AudioLimits
from cosygate.ports.queue import Queue
from cosygate.ports.records import Leases, Outbox
from cosygate.settings import Settings
from cosygate.wiring import stores
from cosygate.wiring.callers import callers
from cosygate.wiring.guard import guard
from cosygate.wiring.limits import upload_limits
from cosygate.wiring.live import live_parts
from cosygate.wiring.secrets import issue_token, jwt_secret
from cosygate.wiring.stores import database_url

__all__ = ["House", "database_url", "issue_token", "jwt_secret", "open_house"]


@dataclass(frozen=True, slots=True)
class House:
    """Everything a gateway process needs, put together."""

    doors: Doors
    transcribe: Transcribe
    engines: EngineRoom
    housekeeping: Housekeeping
    live_keeper: Keeper
    reaper: Reaper
    readiness: Readiness
    leases: Leases
    outbox: Outbox
    queue: Queue
    clock: Clock
    randomness: Randomness
    reaper_every_s: float
    housekeeping_every_s: float


@asynccontextmanager
async def open_house(settings: Settings, engine_addresses: Sequence[str], index: int = 0) -> AsyncIterator[House]:
    """Opens every adapter, in this order, and closes them in the reverse one. `index`: which gateway this is."""
    clock, randomness = SystemClock(), SystemRandomness()
    secret = jwt_secret(settings)
    metrics.build_info.labels(__version__).set(1)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(stores.store(settings, clock))
        records = await stores.records(settings)
        stack.push_async_callback(records.close)
        sandbox = await stack.enter_async_context(stores.sandbox(settings, clock, randomness))
        journal = await stack.enter_async_context(stores.journal(settings, clock))
        grpc_engines = [GrpcEngine(address) for address in engine_addresses]
        for engine in grpc_engines:
            stack.push_async_callback(engine.close)
        engines = EngineRoom(grpc_engines, clock)
        queue = LocalQueue()
        readiness = Readiness(records.health, store.survey, clock)
        ingest = Ingest(
            uploads=records.uploads,
            parts=store.parts,
            queue=queue,
            clock=clock,
            randomness=randomness,
            limits=upload_limits(settings),
            models=engines.models,
            compressed_media=sandbox.usable,
        )
        protection = guard(settings, ingest, engines)
        tasks = Tasks(jobs=records.jobs, events=records.events, parts=store.parts, results=store.results, clock=clock)
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
        )
        housekeeping = Housekeeping(
            uploads=records.uploads,
            jobs=records.jobs,
            parts=store.parts,
            results=store.results,
            survey=store.survey,
            ingest=ingest,
            clock=clock,
            retention_s=settings.retention_hours * 3600,
        )
        tickets = HmacTickets(secret, clock, randomness)
        known = callers(settings, secret, clock)
        live = live_parts(
            settings,
            records=records,
            store=store,
            journal=journal,
            sandbox=sandbox,
            engines=engines,
            gate=protection.gate,
            callers=known,
            tickets=tickets,
            clock=clock,
            randomness=randomness,
            index=index,
        )
        doors = Doors(
            ingest=ingest,
            gate=protection.gate,
            tasks=tasks,
            engines=engines,
            readiness=readiness,
            measure=lambda: measure(records.health, engines),
            callers=known,
            tickets=tickets,
            live=live.live,
            watching=live.watching,
            live_door=live.door,
            randomness=randomness,
            pace=BodyPace(settings.body_idle_s, settings.body_total_s),
            metrics_door=MetricsDoor.parse(settings.metrics_allow),
            version=__version__,
        )
        yield House(
            doors=doors,
            transcribe=transcribe,
            engines=engines,
            housekeeping=housekeeping,
            live_keeper=live.keeper,
            reaper=Reaper(records.leases, clock, settings.lease_expire_s),
            readiness=readiness,
            leases=records.leases,
            outbox=records.outbox,
            queue=queue,
            clock=clock,
            randomness=randomness,
            reaper_every_s=settings.reaper_every_s,
            housekeeping_every_s=settings.housekeeping_every_s,
        )
