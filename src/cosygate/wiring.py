"""The composition root: the only place that chooses technologies, and the only one that imports adapters."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cosygate import __version__
from cosygate.adapters.blobs_disk import DiskStore
from cosygate.adapters.callers_jwt import JwtCallers, check_secret, issue
from cosygate.adapters.decoder_pcm import PcmDecoder
from cosygate.adapters.decoder_sandbox.decoder import SandboxDecoder
from cosygate.adapters.engine_grpc import GrpcEngine
from cosygate.adapters.journal_disk import DiskJournal
from cosygate.adapters.queue_local import LocalQueue
from cosygate.adapters.records_sql import SchemaTooNew, SqlRecords
from cosygate.adapters.tickets_hmac import HmacTickets
from cosygate.api.app import Doors
from cosygate.api.bodies import BodyPace
from cosygate.api.live import LiveDoor
from cosygate.api.system import MetricsDoor
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.housekeeping import Housekeeping, Reaper
from cosygate.flows.ingest import Ingest
from cosygate.flows.live.desk import Live, LiveLimits
from cosygate.flows.live.finishing import Finishing
from cosygate.flows.live.holding import Holding
from cosygate.flows.live.keeping import Keeper
from cosygate.flows.live.watching import Watching
from cosygate.flows.readiness import Readiness, measure
from cosygate.flows.tasks import Tasks
from cosygate.flows.transcribe import Transcribe
from cosygate.kit import metrics
from cosygate.kit.clock import Clock, Randomness, SystemClock, SystemRandomness
from cosygate.model.audio import AudioLimits
from cosygate.model.upload import UploadLimits
from cosygate.ports.queue import Queue
from cosygate.ports.records import Leases, Outbox
from cosygate.settings import Settings


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


def jwt_secret(settings: Settings) -> str:
    """The secret that signs tokens: the setting, else the one in the data folder, made (mode 0600) when there is none.
    Raises ValueError for one that must not be used."""
    if settings.jwt_secret:
        return check_secret(settings.jwt_secret)
    path = settings.data_dir / "jwt_secret"
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".jwt_secret.{os.getpid()}")
    try:
        if not path.exists():
            fresh.touch(mode=0o600)
            with fresh.open("w") as file:
                file.write(secrets.token_urlsafe(48))
                file.flush()
                os.fsync(file.fileno())  # an empty secret after a power loss would keep everything from starting
            os.link(fresh, path)  # whole or not at all, and the first process wins
    except FileExistsError:
        pass
    finally:
        fresh.unlink(missing_ok=True)
    if path.stat().st_mode & 0o077:
        raise ValueError("the file jwt_secret in the data folder can be read by others: chmod 600 it")
    return check_secret(path.read_text().strip())


def issue_token(
    settings: Settings, subject: str, *, ttl_s: float, tenant: str | None = None, scopes: Sequence[str] | None = None
) -> str:
    """A token that these settings' gateways accept for `ttl_s` seconds; without `scopes`, the usual ones. Raises
    ValueError for a name or secret that must not be used."""
    return issue(
        jwt_secret(settings),
        subject=subject,
        now=SystemClock().now(),
        ttl_s=ttl_s,
        tenant=tenant,
        scopes=scopes,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
    )


def database_url(data_dir: Path) -> str:
    return f"sqlite:///{data_dir / 'cosygate.db'}"


@asynccontextmanager
async def open_house(settings: Settings, engine_addresses: Sequence[str], index: int = 0) -> AsyncIterator[House]:
    """Opens every adapter, in this order, and closes them in the reverse one. `index`: which gateway this is."""
    clock, randomness = SystemClock(), SystemRandomness()
    secret = jwt_secret(settings)
    metrics.build_info.labels(__version__).set(1)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(
            DiskStore(
                settings.data_dir / "blobs",
                durability=settings.durability,
                max_bytes=settings.store_max_bytes,
                min_free_bytes=settings.store_min_free_bytes,
                clock=clock,
            )
        )
        records = await _records(settings)
        stack.push_async_callback(records.close)
        sandbox = await stack.enter_async_context(
            SandboxDecoder(
                cpu_s=settings.decoder_cpu_s,
                memory_bytes=settings.decoder_memory_bytes,
                degraded=settings.decoder_sandbox == "degraded",
                streams=settings.engines * settings.engine_live,
                children=settings.runner_jobs or settings.engines * settings.engine_slots + 1,
                clock=clock,
                randomness=randomness,
            )
        )
        journal = await stack.enter_async_context(
            DiskJournal(
                settings.data_dir / "live",
                durability=settings.durability,
                max_bytes=settings.store_max_bytes,
                min_free_bytes=settings.store_min_free_bytes,
                # Each session is slowed long before it has so much waiting (flows/live/session.py).
                waiting_bytes=max(64 << 20, settings.live_sessions * (400 << 10)),
                clock=clock,
            )
        )
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
        keeper = Keeper(
            records.live,
            records.live_keeping,
            journal,
            clock,
            holder=f"{index}/{randomness.token(8).hex()}",
            window_s=settings.live_window_s,
        )
        holding = Holding(
            sessions=records.live,
            keeping=records.live_keeping,
            journal=journal,
            parts=store.parts,
            keeper=keeper,
            finishing=Finishing(records.live, records.live_keeping, keeper, journal, store.results, clock),
            engines=engines,
            decoder=sandbox,
            clock=clock,
            randomness=randomness,
            engine_idle_s=settings.live_engine_idle_s,
            longest_s=settings.recording_max_s,
            longest_bytes=settings.recording_max_bytes,
        )
        live = Live(
            sessions=records.live,
            keeping=records.live_keeping,
            holding=holding,
            engines=engines,
            clock=clock,
            randomness=randomness,
            limits=live_limits(settings),
        )
        callers = JwtCallers(secret, clock, audience=settings.jwt_audience, issuer=settings.jwt_issuer)
        doors = Doors(
            ingest=ingest,
            tasks=tasks,
            engines=engines,
            readiness=readiness,
            measure=lambda: measure(records.health, engines),
            callers=callers,
            tickets=tickets,
            live=live,
            watching=Watching(live, records.live_keeping, journal, clock),
            live_door=LiveDoor(
                live=live,
                callers=callers,
                tickets=tickets,
                one_time=records.one_time,
                clock=clock,
                randomness=randomness,
                origins=frozenset(settings.live_origins.replace(",", " ").split()),
                idle_s=settings.live_idle_s,
            ),
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
            live_keeper=keeper,
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


async def _records(settings: Settings) -> SqlRecords:
    try:
        return await SqlRecords.open(database_url(settings.data_dir), durability=settings.durability)
    except SchemaTooNew as error:
        raise ValueError(str(error)) from None  # the operator's to mend: an older CosyGate was started


def upload_limits(settings: Settings) -> UploadLimits:
    return UploadLimits(
        chunk_bytes=settings.chunk_max_bytes,
        recording_bytes=settings.recording_max_bytes,
        parts=settings.recording_max_parts,
        open_per_owner=settings.open_uploads,
        expires_s=settings.upload_expiry_hours * 3600,
    )


def live_limits(settings: Settings) -> LiveLimits:
    return LiveLimits(
        sessions=settings.live_sessions,
        sessions_each=settings.live_sessions_each,
        window_s=settings.live_window_s,
    )
