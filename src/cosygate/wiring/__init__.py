"""The composition root: the only place that chooses technologies, and the only one that imports adapters.

This file puts the house together; the others are its parts.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cosygate import __version__
from cosygate.adapters.queue_local import LocalQueue
from cosygate.adapters.tickets_hmac import HmacTickets
from cosygate.api.app import Doors
from cosygate.api.bodies import BodyPace
from cosygate.flows.admission import Admission
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.editing import Editing
from cosygate.flows.housekeeping import Housekeeping, Reaper
from cosygate.flows.ingest import Ingest
from cosygate.flows.live.keeping import Keeper
from cosygate.flows.quotas import QuotaWatch
from cosygate.flows.readiness import Readiness, measure
from cosygate.flows.switchboard import Switchboard
from cosygate.flows.tasks import Tasks
from cosygate.flows.transcribe import Transcribe
from cosygate.flows.webhooks import Sender
from cosygate.kit.clock import Clock, Randomness
from cosygate.kit.lines import Lines
from cosygate.kit.networks import MetricsDoor
from cosygate.ports.queue import Broker, Queue
from cosygate.ports.records import Leases, Outbox
from cosygate.settings import Settings
from cosygate.wiring import stores
from cosygate.wiring.callers import callers
from cosygate.wiring.core import open_core
from cosygate.wiring.guard import admission_of, guard, limits_of
from cosygate.wiring.limits import upload_limits
from cosygate.wiring.live import live_parts
from cosygate.wiring.overview import overview
from cosygate.wiring.secrets import issue_token, jwt_secret
from cosygate.wiring.stores import database_url
from cosygate.wiring.telling import begin_telling
from cosygate.wiring.webhooks import webhook_parts

# Transcripts that are written at once; calls that wait for that, of one caller, and of all.
_TRANSCRIPTS, _TRANSCRIPTS_EACH, _TRANSCRIPTS_ALL = 4, 64, 1_000

__all__ = ["House", "database_url", "issue_token", "jwt_secret", "open_house"]


@dataclass(frozen=True, slots=True)
class House:
    """Everything a gateway process needs, put together."""

    doors: Doors
    transcribe: Transcribe
    admission: Admission
    engines: EngineRoom
    housekeeping: Housekeeping
    live_keeper: Keeper
    reaper: Reaper
    readiness: Readiness
    switchboard: Switchboard
    sender: Sender
    quotas: QuotaWatch
    leases: Leases
    outbox: Outbox
    queue: Queue  # wakes this process's own runner, or whoever tells the broker
    broker: Broker | None  # workers elsewhere run the jobs; None: this process does
    alone: bool  # nobody on another host uses these records
    life: str  # this process's name, new in each of its lives
    clock: Clock
    randomness: Randomness
    reaper_every_s: float
    housekeeping_every_s: float


@asynccontextmanager
async def open_house(
    settings: Settings, engine_addresses: Sequence[str], index: int = 0, breakers: Path | None = None
) -> AsyncIterator[House]:
    """Opens every adapter, in this order, and closes them in the reverse one. `index`: which gateway this is;
    `breakers`: the folder of the breakers that it shares with the others."""
    async with AsyncExitStack() as stack:
        core = await open_core(
            settings,
            engine_addresses,
            breakers,
            stack,
            index=index,
            processes=settings.workers,
            jobs=settings.runner_jobs,
        )
        clock, randomness, store, records, engines = (
            core.clock,
            core.randomness,
            core.store,
            core.records,
            core.engines,
        )
        begin_telling(clock.now(), settings.queue_max_s)
        journal = await stack.enter_async_context(stores.journal(settings, clock, core.redis))
        broker = await _broker(settings, stack)
        queue = LocalQueue()
        switchboard = Switchboard(records.switches, clock)
        await switchboard.look()
        readiness = Readiness(records.health, store.survey, clock, switchboard.drained)
        admission = admission_of(settings, records.depth, clock, randomness)
        limits = await limits_of(settings, records, breakers, core.redis, clock, stack)
        hooks = webhook_parts(settings, records, limits.limiting, clock, randomness)
        ingest = Ingest(
            uploads=records.uploads,
            parts=store.parts,
            queue=queue,
            clock=clock,
            randomness=randomness,
            limits=upload_limits(settings),
            models=engines.models,
            compressed_media=core.sandbox.usable,
            callbacks=hooks.callbacks,
            line=admission,
        )
        protection = guard(limits.limiting, ingest, engines, admission, switchboard.drained)
        tasks = Tasks(
            jobs=records.jobs,
            events=records.events,
            parts=store.parts,
            results=store.results,
            clock=clock,
            direct=store.direct,
        )
        lines = Lines(_TRANSCRIPTS, each=_TRANSCRIPTS_EACH, most=_TRANSCRIPTS_ALL, name="transcripts")
        stack.callback(lines.close)
        housekeeping = Housekeeping(
            uploads=records.uploads,
            jobs=records.jobs,
            parts=store.parts,
            results=store.results,
            survey=store.survey,
            receivers=records.receivers,
            ingest=ingest,
            clock=clock,
            retention_s=settings.retention_hours * 3600,
        )
        tickets = HmacTickets(core.secret, clock, randomness)
        known = await stack.enter_async_context(callers(settings, core.secret, records, clock))
        live = live_parts(
            settings,
            records=records,
            store=store,
            journal=journal,
            sandbox=core.sandbox,
            engines=engines,
            gate=protection.gate,
            callers=known,
            callbacks=hooks.callbacks,
            tickets=tickets,
            strangers=limits.strangers,
            clock=clock,
            randomness=randomness,
            index=index,
        )
        doors = Doors(
            ingest=ingest,
            gate=protection.gate,
            tasks=tasks,
            editing=Editing(tasks=tasks, versions=records.versions, lines=lines, clock=clock),
            engines=engines,
            readiness=readiness,
            measure=lambda: measure(records.depth, store.survey, engines, clock.now()),
            callers=known,
            tickets=tickets,
            live=live.live,
            watching=live.watching,
            live_door=live.door,
            webhooks=hooks.webhooks,
            strangers=limits.strangers,
            usage=limits.usage,
            overview=overview(
                __version__,
                records=records,
                engines=engines,
                quotas=limits.quotas,
                webhooks=hooks.webhooks,
                readiness=readiness,
                switchboard=switchboard,
                clock=clock,
            ),
            randomness=randomness,
            pace=BodyPace(settings.body_idle_s, settings.body_total_s),
            metrics_door=MetricsDoor.parse(settings.metrics_allow),
            slow_request_s=settings.slow_request_s,
            version=__version__,
            media=settings.store_public_endpoint if settings.store_url else "",
        )
        yield House(
            doors=doors,
            transcribe=core.transcribe,
            admission=admission,
            engines=engines,
            housekeeping=housekeeping,
            live_keeper=live.keeper,
            reaper=core.reaper,
            readiness=readiness,
            switchboard=switchboard,
            sender=hooks.sender,
            quotas=limits.quotas,
            leases=records.leases,
            outbox=records.outbox,
            queue=queue,
            broker=broker,
            alone=not settings.shared,
            life=f"{socket.gethostname()}/{randomness.token(6).hex()}",
            clock=clock,
            randomness=randomness,
            reaper_every_s=settings.reaper_every_s,
            housekeeping_every_s=settings.housekeeping_every_s,
        )


async def _broker(settings: Settings, stack: AsyncExitStack) -> Broker | None:
    if not settings.broker_url:
        return None
    from cosygate.adapters.queue_celery import CeleryBroker
    from cosygate.wiring.celery import celery_app

    broker = CeleryBroker(celery_app(settings))
    stack.push_async_callback(broker.close)
    return broker
