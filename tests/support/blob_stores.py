"""Every blob store there is, for the contract suite: a name → how to open one that is empty and bounded."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import cache
from pathlib import Path
from typing import Protocol

from cosygate.adapters.blobs_disk import DiskStore
from cosygate.adapters.blobs_object import ObjectStore
from cosygate.kit.clock import SystemClock
from cosygate.model.upload import LastMark, Listing
from cosygate.ports.blobs import PartStore, RecordingFiles, ResultStore, StoreSurvey
from tests.support import services


class MovedClock(SystemClock):
    """The real clock, shifted by hand."""

    shift = 0.0

    def now(self) -> float:
        return super().now() + self.shift

    def monotonic(self) -> float:
        return super().monotonic() + self.shift


class Store(Protocol):
    parts: PartStore
    recordings: RecordingFiles
    results: ResultStore
    survey: StoreSurvey


# Opens the store at a place (the same place twice: as two processes would), for at most so many bytes.
Opener = Callable[[Path, int], AbstractAsyncContextManager[Store]]

CREDENTIALS = {"access_key_id": "testing", "secret_access_key": "testing", "region": "us-east-1"}  # any will do


@cache
def shared_server() -> services.ObjectStore:
    """One for the whole test process, which ends with it."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(services.object_store())


def object_store(
    place: Path, most: int = 64 * 1024**2, *, endpoint: str = "", count_every_s: float = 0.0, timeout_s: float = 10.0
) -> ObjectStore:
    """A prefix for each place, in the one bucket of this process's server. It counts anew whenever it is asked, so what
    it tells of bytes is exact."""
    return ObjectStore(
        f"s3://cosygate/{place}",
        place / "scratch",
        endpoint=endpoint or shared_server().endpoint,
        credentials=CREDENTIALS,
        max_bytes=most,
        min_free_bytes=0,
        count_every_s=count_every_s,
        timeout_s=timeout_s,
    )


STORES: dict[str, Opener] = {
    "disk": lambda place, most: DiskStore(place, durability="disk", max_bytes=most, min_free_bytes=0),
    "disk-process": lambda place, most: DiskStore(place, durability="process", max_bytes=most, min_free_bytes=0),
    "disk-named": lambda place, most: DiskStore(place, max_bytes=most, min_free_bytes=0, nameless=False),
    "s3": object_store,
}
EXACT = [name for name in STORES if name.startswith("disk")]  # those whose bound holds over all processes


async def in_pieces(data: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    """A request body as a server hands it on."""
    for at in range(0, len(data), size):
        yield data[at : at + size]
        await asyncio.sleep(0)


async def put(
    store: Store,
    upload_id: str,
    seq: int,
    data: bytes,
    mark: LastMark | None = None,
    *,
    create: bool = True,
    max_bytes: int | None = None,
    limit: int = 8 * 1024**2,
) -> Listing:
    """What the doors do with one chunk."""
    received = await store.parts.receive(in_pieces(data), limit=limit)
    try:
        return await store.parts.put(upload_id, seq, received, mark, max_bytes=max_bytes, create=create)
    finally:
        await received.close()


async def read(store: Store, upload_id: str, listing: Listing, start: int = 0, length: int | None = None) -> bytes:
    wanted = listing.total_bytes - start if length is None else length
    return b"".join([piece async for piece in store.parts.read(upload_id, listing, start, wanted)])


def turns(store: Store, many: int) -> int:
    """How often to race: a server written in Python takes seconds for what a disk does in none, and
    test_blobs_object_races.py races the same code thousands of times."""
    return many if isinstance(store, DiskStore) else max(4, many // 6)


def folder_of(root: Path, upload: str) -> Path:
    """Where a store on disk keeps an upload."""
    (found,) = (root / "uploads").glob(f"*/{upload}")
    return found
