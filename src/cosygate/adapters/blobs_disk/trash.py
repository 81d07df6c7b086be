"""Erasing: a folder is first moved away, at once and whole, and then emptied."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress

from cosygate.adapters.blobs_disk.disk import Disk
from cosygate.adapters.blobs_disk.room import Room, blocks


def throw_away(disk: Disk, room: Room, folder: str) -> None:
    """Removes a folder of files, if it is there. Once it is moved nobody finds it; a crash then is `sweep`'s work."""
    gone = f"{disk.root}/trash/{secrets.token_hex(16)}"
    try:
        os.rename(folder, gone)
    except FileNotFoundError:
        return
    disk.sync_folder(os.path.dirname(folder))
    empty(room, gone)


def empty(room: Room, folder: str) -> None:
    """Removes a folder in the trash. Several threads or processes may be at it: each gives back what it removed."""
    freed = 0
    try:
        with suppress(FileNotFoundError):
            for entry in os.scandir(folder):
                with suppress(FileNotFoundError):
                    size = blocks(entry.stat(follow_symlinks=False).st_size)
                    os.unlink(entry.path)
                    freed += size
            os.rmdir(folder)
    finally:
        room.give_back(freed)
