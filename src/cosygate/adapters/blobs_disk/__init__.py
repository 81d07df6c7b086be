"""Blobs on a local folder, shared by any number of processes: `DiskStore` opens it, its parts serve the ports."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from cosygate.adapters.blobs_disk.disk import Disk
from cosygate.adapters.blobs_disk.parts import DiskParts
from cosygate.adapters.blobs_disk.reading import DiskRecordings
from cosygate.adapters.blobs_disk.results import DiskResults
from cosygate.adapters.blobs_disk.room import Room
from cosygate.adapters.blobs_disk.survey import DiskSurvey
from cosygate.kit.clock import Clock, SystemClock
from cosygate.ports.blobs import DirectAudio

__all__ = ["DiskStore"]


class DiskStore:
    """One process's access to the store under `root`, a folder on a local file system.

    durability: "disk" fsyncs before it acknowledges, "process" survives kill -9 but not power loss. max_bytes bounds
    recordings and results of all processes on this root together, min_free_bytes is what the file system keeps free.
    threads: how many jobs touch the disk at once; the default is what was measured best on two cores (fsyncs of several
    threads share a journal commit). nameless: False gives files that are being written a name, as happens by itself on
    file systems without O_TMPFILE. lock_wait_s: how long a put waits for somebody stopped in the middle of another.
    `start` before use (raises Unavailable or StorageFull when the folder cannot be used), `close` after it.
    """

    def __init__(
        self,
        root: Path,
        *,
        durability: Literal["disk", "process"] = "disk",
        max_bytes: int = 50 * 1024**3,
        min_free_bytes: int = 64 * 1024**2,
        threads: int | None = None,
        nameless: bool = True,
        lock_wait_s: float = 5.0,
        clock: Clock | None = None,
        fsync: Callable[[int], None] = os.fsync,
    ) -> None:
        durable = durability == "disk"
        clock = clock or SystemClock()
        self._disk = Disk(
            root, durable=durable, threads=threads or (8 if durable else 4), nameless=nameless, fsync=fsync
        )
        self._room = Room(self._disk.root, max_bytes, min_free_bytes, clock)
        self.parts = DiskParts(self._disk, self._room, lock_wait_s)
        self.recordings = DiskRecordings(self._disk, self._room)
        self.results = DiskResults(self._disk, self._room)
        self.survey = DiskSurvey(self._disk, self._room, clock)
        self.direct: DirectAudio | None = None  # a disk has no address of its own

    async def start(self) -> None:
        await self._disk.run(self._disk.prepare)
        await self._disk.run(self._room.start)

    async def close(self) -> None:
        await self._disk.close()
        self._room.stop()

    async def __aenter__(self) -> DiskStore:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
