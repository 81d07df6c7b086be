"""What housekeeping asks of the store: how much, how old, and what a crash left behind."""

from __future__ import annotations

import os
from contextlib import suppress

from cosygate.adapters.blobs_disk.disk import Disk
from cosygate.adapters.blobs_disk.room import BLOCK, Room
from cosygate.adapters.blobs_disk.trash import empty
from cosygate.kit.clock import Clock


class DiskSurvey:
    """A StoreSurvey. Ages are the wall clock's, as the file system's times are: for retention only."""

    def __init__(self, disk: Disk, room: Room, clock: Clock) -> None:
        self._disk = disk
        self._room = room
        self._clock = clock

    async def used_bytes(self) -> int:
        return await self._disk.run(self._room.used)

    async def free_bytes(self) -> int:
        return await self._disk.run(self._room.left)

    async def check_room(self) -> None:
        await self._disk.run(self._check_room)

    async def uploads(self) -> dict[str, float]:
        return await self._disk.run(self._uploads)

    async def sweep(self, older_than_s: float) -> int:
        return await self._disk.run(self._sweep, older_than_s)

    def _check_room(self) -> None:
        self._room.take(BLOCK)
        self._room.give_back(BLOCK)

    def _uploads(self) -> dict[str, float]:
        now = self._clock.now()
        found = {}
        for shard in os.scandir(f"{self._disk.root}/uploads"):
            for entry in os.scandir(shard.path):
                with suppress(FileNotFoundError):  # erased meanwhile
                    found[entry.name] = max(0.0, now - entry.stat(follow_symlinks=False).st_mtime)
        return found

    def _sweep(self, older_than_s: float) -> int:
        now = self._clock.now()
        removed = 0
        for kind in ("tmp", "trash"):
            for entry in os.scandir(f"{self._disk.root}/{kind}"):
                with suppress(FileNotFoundError):
                    if now - entry.stat(follow_symlinks=False).st_ctime < older_than_s:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        empty(self._room, entry.path)
                    else:
                        os.unlink(entry.path)
                    removed += 1
        return removed
