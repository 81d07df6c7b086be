"""A journal on a local folder, shared by any number of processes: `DiskJournal` is the port.

Needs a file system with coherent shared maps and flock (any local one on Linux; not NFS).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from cosygate.adapters.journal_disk.disk import Disk
from cosygate.adapters.journal_disk.places import Places
from cosygate.adapters.journal_disk.room import Room
from cosygate.adapters.journal_disk.syncs import syncfs
from cosygate.adapters.journal_disk.watch import Watching
from cosygate.kit.clock import Clock, SystemClock
from cosygate.ports.journal import Claimed, Event, Past

__all__ = ["DiskJournal"]


class DiskJournal:
    """See ports/journal.py. `start` before use (raises Unavailable or StorageFull when the folder cannot be used),
    `close` after it; both in the event loop that uses it.

    durability: "disk" syncs before it acknowledges, "process" survives kill -9 but not power loss. max_bytes bounds the
    journals of all processes on this root together, nearly (room.py); min_free_bytes is what the file system keeps
    free. waiting_bytes: how much may wait to be acknowledged in this process. lock_wait_s: how long a claim waits for
    somebody stopped in the middle of another. Two descriptors per open session, two more per watched one.
    """

    def __init__(
        self,
        root: Path,
        *,
        durability: Literal["disk", "process"] = "disk",
        max_bytes: int = 10 * 1024**3,
        min_free_bytes: int = 64 * 1024**2,
        waiting_bytes: int = 64 * 1024**2,
        lock_wait_s: float = 5.0,
        clock: Clock | None = None,
        fsync: Callable[[int], None] = os.fdatasync,
        sync_all: Callable[[int], None] = syncfs,
    ) -> None:
        self._clock = clock or SystemClock()
        places = Places(str(root), sync=fsync if durability == "disk" else None, lock_wait_s=lock_wait_s)
        room = Room(places.root, max_bytes, min_free_bytes, self._clock, places.used)
        self._places = places
        self._disk = Disk(
            places, room, durability=durability, most_waiting=waiting_bytes, sync=fsync, sync_all=sync_all
        )
        self._watching = Watching(places)

    async def start(self) -> None:
        await self._disk.start()

    async def close(self) -> None:
        """Waits for what was appended, and closes every writer. Idempotent."""
        await self._disk.close()
        self._watching.close()

    async def __aenter__(self) -> DiskJournal:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def claim(self, session_id: str, epoch: int) -> Claimed:
        writer, found = await self._disk.claim(session_id, epoch)
        return Claimed(writer, Past(found.snapshot, found.events, found.first, found.end))

    async def events(self, session_id: str, after: str) -> tuple[list[Event], str]:
        if self._watching.nothing_new(session_id, after):
            return [], after
        return await self._disk.run(self._watching.events, session_id, after)

    async def drop(self, session_id: str) -> None:
        await self._disk.run(self._places.drop, session_id)
        self._watching.forget(session_id)

    async def sessions(self) -> dict[str, float]:
        return await self._disk.run(self._places.sessions, self._clock.now())
