"""Transcripts: one file per job and fence, replaced whole."""

from __future__ import annotations

import os
from contextlib import suppress

from cosygate import errors
from cosygate.adapters.blobs_disk.disk import Disk, Temporary
from cosygate.adapters.blobs_disk.room import Room, blocks
from cosygate.adapters.blobs_disk.trash import throw_away

_TRIES = 3  # a put whose folder is erased under its hands makes it anew


class DiskResults:
    """A ResultStore."""

    def __init__(self, disk: Disk, room: Room) -> None:
        self._disk = disk
        self._room = room

    async def put(self, job_id: str, fence: int, data: bytes) -> None:
        await self._disk.run(self._put, job_id, fence, data)

    async def get(self, job_id: str, fence: int) -> bytes | None:
        return await self._disk.run(self._get, job_id, fence)

    async def erase(self, job_id: str, fence: int | None = None) -> None:
        await self._disk.run(self._erase, job_id, fence)

    # --- in a thread -----------------------------------------------------------------------------------------------

    def _put(self, job_id: str, fence: int, data: bytes) -> None:
        folder = self._disk.result_folder(job_id)
        size = blocks(len(data))
        self._room.take(size)
        written = None
        try:
            written = self._disk.temporary(named=True)
            written.write([data])
            self._disk.sync(written.fd)
            replaced = _name(self._disk, written, folder, fence)
        except BaseException:
            self._room.give_back(size)
            raise
        finally:
            if written:
                written.close()
        if replaced:
            self._room.give_back(replaced)
        with suppress(FileNotFoundError):  # erased since: then there is nothing to keep
            self._disk.sync_folder(folder)
            self._disk.sync_parents(folder)

    def _get(self, job_id: str, fence: int) -> bytes | None:
        try:
            with open(_path(self._disk.result_folder(job_id), fence), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def _erase(self, job_id: str, fence: int | None) -> None:
        folder = self._disk.result_folder(job_id)
        if fence is None:
            throw_away(self._disk, self._room, folder)
            return
        with suppress(FileNotFoundError):
            size = _taken(_path(folder, fence))
            os.unlink(_path(folder, fence))
            self._room.give_back(size)
            with suppress(OSError):  # another fence's result is in it
                os.rmdir(folder)


def _path(folder: str, fence: int) -> str:
    return f"{folder}/{fence}.json"


def _taken(path: str) -> int:
    """Bytes on disk; 0 when there is no such file."""
    try:
        return blocks(os.stat(path).st_size)
    except FileNotFoundError:
        return 0


def _name(disk: Disk, written: Temporary, folder: str, fence: int) -> int:
    """Gives the file its name; returns the bytes of the one that had it."""
    for _ in range(_TRIES):
        disk.make_folder(folder)
        replaced = _taken(_path(folder, fence))
        with suppress(FileNotFoundError):
            written.rename(_path(folder, fence))
            return replaced
    raise errors.Unavailable("the result is being erased")
