"""Every journal there is, for the contract suite: a name → how to open one that is empty, twice for two processes.

A Redis adapter joins by adding its line to JOURNALS.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from cosygate.adapters.journal_disk import DiskJournal
from cosygate.ports.journal import Journal, JournalWriter, Past, Sound

# Opens the journal at a place (the same place twice: as two processes would); in each, at most so many bytes wait.
Opener = Callable[[Path, int], AbstractAsyncContextManager[Journal]]

JOURNALS: dict[str, Opener] = {
    "disk": lambda place, waiting: DiskJournal(
        place, durability="disk", min_free_bytes=0, waiting_bytes=waiting, lock_wait_s=2.0
    ),
    "disk-process": lambda place, waiting: DiskJournal(
        place, durability="process", min_free_bytes=0, waiting_bytes=waiting, lock_wait_s=2.0
    ),
}


async def story(journal: Journal, session: str, epoch: int) -> tuple[Past, bytes]:
    """What the next holder finds: the past, and its audio."""
    claimed = await journal.claim(session, epoch)
    try:
        return claimed.past, await whole(claimed.writer, claimed.past.first)
    finally:
        await claimed.writer.close()


async def whole(writer: JournalWriter, first: int = 0) -> bytes:
    """All audio from `first` on, read in odd pieces."""
    data = bytearray()
    while piece := await writer.read(first + len(data), 70_001):
        data += piece
    return bytes(data)


def sound(start: int, size: int) -> Sound:
    """Bytes that tell their place."""
    return Sound(start, audio(start, size))


def audio(start: int, size: int) -> bytes:
    return bytes(at * 31 % 251 + 1 for at in range(start, start + size))


def event(number: int, **more: Any) -> dict[str, Any]:
    return {"type": "final", "id": number, **more}
