"""A session's sound as bytes: the newest in memory, the recent in the journal, the rest as parts of its recording.

The recording grows while the session goes on: part after part of the same size, at places that depend on the bytes
alone, so whoever continues the session stores the same parts. They bound the journal, and let a session end at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from cosygate.model.upload import LastMark, Listing
from cosygate.model.wav import wav_header
from cosygate.ports.blobs import PartStore
from cosygate.ports.journal import JournalWriter, Past

PART_BYTES = 512 * 1024
_TAIL_BYTES = 96 * 1024  # of audio that waits for the engine in memory; what is older is read from the journal
_READ_BYTES = 64 * 1024


async def stored_sound(parts: PartStore, upload_id: str, *, header: bool) -> tuple[int, bool]:
    """Bytes that parts hold from the beginning on, and whether the session ended there: a shorter part, or the mark of
    the last one, is stored by `Sound.finish` alone. What SQL and the journal know may be less. Raises
    StorageUnavailable."""
    listing = await parts.list(upload_id)
    kept, seq = 0, 1 if header else 0
    while (size := listing.parts.get(seq)) is not None:
        kept, seq = kept + size, seq + 1
        if size != PART_BYTES:
            return kept, True
    return kept, listing.mark is not None


def hole(end: int) -> dict[str, Any]:
    """An event: the journal was lost, and lacks what it had up to byte `end`, where its sound goes on."""
    return {"type": "hole", "end": end}


def whole_from(past: Past) -> int:
    """The byte from which on the journal has everything: what it lacks would read as silence."""
    return max([past.first, *(int(event["end"]) for event in past.events if event["type"] == "hole")])


class Tail:
    """The newest audio, contiguous, up to what has arrived. Byte positions."""

    def __init__(self, end: int) -> None:
        self._pieces: deque[bytes] = deque()
        self._start = self._end = end

    def push(self, start: int, data: bytes) -> None:
        if start != self._end:  # a gap: nothing before it is wanted any more
            self._pieces.clear()
            self._start = start
        self._pieces.append(data)
        self._end = start + len(data)
        while self._end - self._start > _TAIL_BYTES:
            self._start += len(self._pieces.popleft())

    def take(self, start: int, limit: int) -> bytes | None:
        """Bytes from `start`, at most `limit`, forgetting all before their end; None when the tail does not reach back
        so far, or is empty."""
        if start < self._start or not self._pieces:
            return None
        taken: list[bytes] = []
        size = 0
        while self._pieces and size < limit:
            piece = self._pieces.popleft()
            if self._start < start:  # fed already
                skip = min(len(piece), start - self._start)
                self._start += skip
                piece = piece[skip:]
            room = limit - size
            if len(piece) > room:
                self._pieces.appendleft(piece[room:])
                piece = piece[:room]
            self._start += len(piece)
            size += len(piece)
            taken.append(piece)
        return taken[0] if len(taken) == 1 else b"".join(taken)


class Sound:
    """Reading and keeping. What lies before the journal is in parts."""

    def __init__(
        self, parts: PartStore, upload_id: str, writer: JournalWriter, *, first: int, end: int, kept: int, header: bool
    ) -> None:
        """`header`: a WAV header precedes the samples, as part 0; it is written last, when their number is known."""
        self._parts = parts
        self._upload_id = upload_id
        self._writer = writer
        self.first = first  # byte from which on the journal has everything; a compaction moves it
        self._header = header
        self.tail = Tail(end)
        self.kept = kept  # bytes stored as parts; the last is a shorter one when the session has ended there
        self._storing = asyncio.Lock()

    async def read(self, start: int, end: int) -> bytes:
        """Bytes of [start, end), at least one when there are any, at most _READ_BYTES."""
        limit = min(end - start, _READ_BYTES)
        data = self.tail.take(start, limit)
        if data is not None:
            return data
        if start >= self.first:  # whether or not it is in parts too: their store may be away
            try:
                return await self._writer.read(start, limit)
            except ValueError:
                if start >= self.first:
                    raise
                # Else it was compacted meanwhile.
        return await self._stored(start, min(limit, self.kept - start))

    def part_is_due(self, end: int) -> bool:
        return self.kept + PART_BYTES <= end

    async def advance(self, end: int) -> None:
        """Stores every whole part below byte `end`, which the journal has for sure. Raises StorageFull, Unavailable."""
        async with self._storing:
            while self.part_is_due(end):
                await self._put(self.kept // PART_BYTES, self.kept, self.kept + PART_BYTES)
                self.kept += PART_BYTES

    async def finish(self, end: int, rate: int, options: str) -> int:
        """Stores what is left up to byte `end`, the mark of the last part, and then the header, which tells of sound
        that must not be in the journal alone; returns the recording's bytes. Repeating it, also by another process, is
        fine."""
        await self.advance(end)
        base = 1 if self._header else 0
        rest = end % PART_BYTES
        count = end // PART_BYTES + (1 if rest else 0)
        last = max(0, count + base - 1)
        mark = LastMark(last, options)
        if count:
            await self._put(count - 1, (count - 1) * PART_BYTES, end, mark)
        head = wav_header(rate, end) if self._header else b""
        if self._header or not count:
            await self._store(0, head, mark if last == 0 else None)
        return len(head) + end

    async def _put(self, number: int, start: int, end: int, mark: LastMark | None = None) -> None:
        data = bytearray()
        while start + len(data) < end:
            at = start + len(data)
            if at < self.kept:
                piece = await self._stored(at, min(end, self.kept) - at)
            else:
                piece = await self._writer.read(at, end - at)
            if not piece:
                raise RuntimeError("the journal lacks audio that it acknowledged")
            data += piece
        await self._store(number + (1 if self._header else 0), bytes(data), mark)

    async def _store(self, seq: int, data: bytes, mark: LastMark | None) -> None:
        received = await self._parts.receive(_once(data), limit=len(data))
        try:
            await self._parts.put(self._upload_id, seq, received, mark, create=True)
        finally:
            await received.close()

    async def _stored(self, start: int, length: int) -> bytes:
        """From the parts, as if they held samples alone."""
        base = 1 if self._header else 0
        # By their sizes we know what is there; and the header, whose size is not the samples' business, is left out.
        starts = range(0, self.kept, PART_BYTES)
        listing = Listing({n + base: min(PART_BYTES, self.kept - at) for n, at in enumerate(starts)})
        pieces = [p async for p in self._parts.read(self._upload_id, listing, start, length)]
        return b"".join(pieces)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data
