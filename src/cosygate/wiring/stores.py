"""What keeps things: the database, the blobs, the journal; and the decoder's sandbox."""

from __future__ import annotations

from pathlib import Path

from cosygate.adapters.blobs_disk import DiskStore
from cosygate.adapters.decoder_sandbox.decoder import SandboxDecoder
from cosygate.adapters.journal_disk import DiskJournal
from cosygate.adapters.records_sql import SchemaTooNew, SqlRecords
from cosygate.kit.clock import Clock, Randomness
from cosygate.settings import Settings


def database_url(data_dir: Path) -> str:
    return f"sqlite:///{data_dir / 'cosygate.db'}"


async def records(settings: Settings) -> SqlRecords:
    try:
        return await SqlRecords.open(database_url(settings.data_dir), durability=settings.durability)
    except SchemaTooNew as error:
        raise ValueError(str(error)) from None  # the operator's to mend: an older CosyGate was started


def store(settings: Settings, clock: Clock) -> DiskStore:
    return DiskStore(
        settings.data_dir / "blobs",
        durability=settings.durability,
        max_bytes=settings.store_max_bytes,
        min_free_bytes=settings.store_min_free_bytes,
        clock=clock,
    )


def journal(settings: Settings, clock: Clock) -> DiskJournal:
    return DiskJournal(
        settings.data_dir / "live",
        durability=settings.durability,
        max_bytes=settings.store_max_bytes,
        min_free_bytes=settings.store_min_free_bytes,
        # Each session is slowed long before it has so much waiting (flows/live/session.py).
        waiting_bytes=max(64 << 20, settings.live_sessions * (400 << 10)),
        clock=clock,
    )


def sandbox(settings: Settings, clock: Clock, randomness: Randomness) -> SandboxDecoder:
    return SandboxDecoder(
        cpu_s=settings.decoder_cpu_s,
        memory_bytes=settings.decoder_memory_bytes,
        degraded=settings.decoder_sandbox == "degraded",
        streams=settings.engines * settings.engine_live,
        children=settings.runner_jobs or settings.engines * settings.engine_slots + 1,
        clock=clock,
        randomness=randomness,
    )
