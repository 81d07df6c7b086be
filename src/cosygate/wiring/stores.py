"""What keeps things: the database, the blobs, the journal; and the decoder's sandbox."""

from __future__ import annotations

import math
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cosygate.adapters.blobs_disk import DiskStore
from cosygate.adapters.decoder_sandbox.decoder import SandboxDecoder
from cosygate.adapters.journal_disk import DiskJournal
from cosygate.adapters.records_sql import SchemaTooNew, SchemaTooOld, SqlRecords
from cosygate.kit.clock import Clock, Randomness
from cosygate.ports.blobs import DirectAudio, PartStore, RecordingFiles, ResultStore, StoreSurvey
from cosygate.ports.journal import Journal
from cosygate.settings import Settings

if TYPE_CHECKING:
    from redis.asyncio import Redis


class Store(Protocol):
    """Where bytes live, wherever that is."""

    @property
    def parts(self) -> PartStore: ...
    @property
    def recordings(self) -> RecordingFiles: ...
    @property
    def results(self) -> ResultStore: ...
    @property
    def survey(self) -> StoreSurvey: ...
    @property
    def direct(self) -> DirectAudio | None: ...


def database_url(data_dir: Path) -> str:
    return f"sqlite:///{data_dir / 'cosygate.db'}"


async def records(settings: Settings) -> SqlRecords:
    try:
        return await SqlRecords.open(
            settings.database_url or database_url(settings.data_dir),
            durability=settings.durability,
            pool=settings.database_pool,
            overflow=settings.database_overflow,
        )
    except (SchemaTooNew, SchemaTooOld) as error:
        raise ValueError(str(error)) from None  # the operator's to mend: an older CosyGate was started, or a newer one


def store(settings: Settings, clock: Clock) -> AbstractAsyncContextManager[Store]:
    """Raises ValueError when the object store's address cannot be used."""
    if settings.store_url:
        from cosygate.adapters.blobs_object import ObjectStore  # needs obstore, which an embedded server has not

        return ObjectStore(
            settings.store_url,
            settings.data_dir / "scratch",
            endpoint=settings.store_endpoint,
            public_endpoint=settings.store_public_endpoint,
            max_bytes=settings.store_max_bytes,
            min_free_bytes=settings.store_min_free_bytes,
            clock=clock,
        )
    return DiskStore(
        settings.data_dir / "blobs",
        durability=settings.durability,
        max_bytes=settings.store_max_bytes,
        min_free_bytes=settings.store_min_free_bytes,
        clock=clock,
    )


def journal(settings: Settings, clock: Clock, redis: Redis | None) -> AbstractAsyncContextManager[Journal]:
    # Each session is slowed long before it has so much waiting (flows/live/session.py).
    waiting_bytes = max(64 << 20, settings.live_sessions * (400 << 10))
    if redis is not None:
        from cosygate.adapters.journal_redis import RedisJournal  # with redis-py, which embedded mode does without

        # By the end of the window a session was adopted: this is for an outage of everything.
        ttl_s = max(3600, math.ceil(4 * settings.live_window_s))
        return RedisJournal(redis, waiting_bytes=waiting_bytes, ttl_s=ttl_s, clock=clock)
    return DiskJournal(
        settings.data_dir / "live",
        durability=settings.durability,
        max_bytes=settings.store_max_bytes,
        min_free_bytes=settings.store_min_free_bytes,
        waiting_bytes=waiting_bytes,
        clock=clock,
    )


def sandbox(settings: Settings, clock: Clock, randomness: Randomness, *, jobs: int) -> SandboxDecoder:
    """`jobs`: how many recordings are decoded at once; 0: as many as the engines here have slots, and one more."""
    return SandboxDecoder(
        cpu_s=settings.decoder_cpu_s,
        memory_bytes=settings.decoder_memory_bytes,
        degraded=settings.decoder_sandbox == "degraded",
        streams=settings.engines * settings.engine_live,
        children=jobs or settings.engines * settings.engine_slots + 1,
        clock=clock,
        randomness=randomness,
    )
