"""Where a live session's sound and story are safe until they are a recording and a transcript.

A journal keeps, per session, one stream of audio bytes (in the session's own format, counted from 0) and the events
that were decided on it. Whoever holds the session's highest epoch writes; everybody else's writes fail. It knows
nothing of samples or formats: the flow counts, the journal keeps bytes.

Durable means as in ports/blobs.py: with durability=process, what was appended survives kill -9; with disk also power
loss (appends of all sessions share syncs, at most 200 ms apart). A journal that lies elsewhere may be lost as a whole,
or in its newest part: then writers are broken with Unavailable, never TakenOver, lest anything be appended behind a
hole; the next claim finds a beginning of the story, or none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Event = Mapping[str, Any]  # a JSON object


@dataclass(frozen=True, slots=True)
class Sound:
    """Bytes [start, start + len(data)) of the session's audio. Appended without overlap; what a gap leaves out (start
    beyond the end of the stored audio) reads as zeros."""

    start: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Past:
    """What a claim finds: the snapshot of the last `compact` (None when there was none), the lasting events after it in
    order, and which audio is stored: bytes [first, end)."""

    snapshot: Event | None
    events: Sequence[Event]
    first: int
    end: int


class JournalWriter(Protocol):
    """One session under one epoch. Its methods raise TakenOver once a higher epoch has claimed the session; what they
    then did is visible to nobody."""

    def append(self, *records: Sound | Event, passing: bool = False) -> asyncio.Future[None]:
        """Appends in order; the awaitable is done when all of `records`, and everything appended before, are durable
        and the epoch still holds. It never needs to be awaited for the append to happen. `passing`: events that tell
        watchers of this moment (partials): no durability is waited for, and claims do not return them.

        Raises (through the awaitable) TakenOver, StorageFull, Unavailable; also when more than a bounded amount waits
        to be written. After any of them the writer is broken: nothing of `records` nor of later appends is stored, and
        they raise the same. Whoever wants to go on claims the session again. (What was on its way to a journal that
        did not answer in time may still be found there by that claim: whole appends, in order, or nothing.)"""

    async def read(self, start: int, limit: int) -> bytes:
        """Appended audio from byte `start` (at least Past.first, or what compact kept), at most `limit` bytes. There
        may be fewer, and none only at the end: ask for the rest again. Sees all appends made before the call."""

    async def compact(self, snapshot: Event, keep_from: int) -> None:
        """Replaces everything before by `snapshot`, keeping the audio from byte `keep_from` on: bounds what the journal
        takes and how long a claim needs. All or nothing, also over kill -9. Watchers' positions stay valid."""

    def held(self) -> bool:
        """Whether this epoch still holds, as far as can be told without waiting (microseconds). Another process's claim
        may be told late, by a bound that the adapter names; no append is acknowledged meanwhile."""

    async def close(self) -> None:
        """Waits for what was appended; frees descriptors. The session stays. Idempotent."""


@dataclass(frozen=True, slots=True)
class Claimed:
    writer: JournalWriter
    past: Past


class Journal(Protocol):
    async def claim(self, session_id: str, epoch: int) -> Claimed:
        """Takes the session (made when there is none) for `epoch`. From then on no append under a lower epoch is
        acknowledged, nor seen by anybody. Raises TakenOver when `epoch` is not higher than every earlier claim's."""

    async def events(self, session_id: str, after: str) -> tuple[list[Event], str]:
        """For watchers, in any process: events, passing ones too, appended since the position `after` ("" for now: no
        events, the present position), at most 500, and the position behind them. Cheap when there are none. Events
        that were compacted away meanwhile are missed: their lasting ones are in the records by then. A session that is
        not there gives none."""

    async def drop(self, session_id: str) -> None:
        """Erases the session's journal. Its writer raises TakenOver from then on. Idempotent."""

    async def sessions(self) -> dict[str, float]:
        """Every session that has a journal → seconds since its last append."""
