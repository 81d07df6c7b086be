"""Reading recordings: a range of bytes over many parts, or the whole behind one descriptor. Each part is a request, so
many are under way at once: a recording of 10,000 parts must not be 10,000 round trips, one after the other."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Iterator

from cosygate import errors
from cosygate.adapters.blobs_object.bucket import Bucket
from cosygate.adapters.blobs_object.ledger import part_key
from cosygate.adapters.blobs_object.scratch import MIB, Scratch, write_at
from cosygate.model.upload import Listing

PIECE = MIB  # bytes that a reader gets at once, at most
_AHEAD = 4  # pieces that are fetched while one is read
_FETCH = 4 * MIB  # bytes of one request for a whole recording
_FETCHES = 16  # at once

Slice = tuple[int, int, int]  # seq, offset, bytes


def slices(listing: Listing, start: int, length: int) -> Iterator[Slice]:
    """What of which part makes up bytes [start, start+length), in order."""
    at, end = 0, start + length
    for seq in sorted(listing.parts):
        size = listing.parts[seq]
        first, last = max(start, at), min(end, at + size)
        if first < last:
            yield seq, first - at, last - first
        at += size
        if at >= end:
            return


def batches(wanted: Iterator[Slice], most: int = PIECE) -> Iterator[list[Slice]]:
    """Groups of slices of at most `most` bytes each: many small parts travel together, a large one in several."""
    batch: list[Slice] = []
    room = most
    for seq, offset, size in wanted:
        while size:
            taken = min(size, room)
            batch.append((seq, offset, taken))
            offset, size, room = offset + taken, size - taken, room - taken
            if not room:
                yield batch
                batch, room = [], most
    if batch:
        yield batch


async def _fetched(bucket: Bucket, upload_id: str, one: Slice) -> bytes:
    """Raises AudioGone."""
    seq, offset, size = one
    data = await bucket.span(part_key(upload_id, seq), offset, size)
    if data is None:
        raise errors.AudioGone()
    if len(data) != size:
        raise errors.AudioGone("a part is shorter than it was")
    return data


async def _piece(bucket: Bucket, upload_id: str, batch: list[Slice]) -> bytes:
    if len(batch) == 1:
        return await _fetched(bucket, upload_id, batch[0])
    try:
        async with asyncio.TaskGroup() as group:
            fetching = [group.create_task(_fetched(bucket, upload_id, one)) for one in batch]
    except* errors.CosyGateError as several:
        raise _first(several) from None
    return b"".join(fetch.result() for fetch in fetching)


def _first(several: ExceptionGroup[errors.CosyGateError]) -> errors.CosyGateError:
    error: ExceptionGroup[errors.CosyGateError] | errors.CosyGateError = several
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


async def read_pieces(
    bucket: Bucket, upload_id: str, listing: Listing, start: int, length: int
) -> AsyncIterator[bytes]:
    ahead: deque[asyncio.Task[bytes]] = deque()
    try:
        for batch in batches(slices(listing, start, length)):
            ahead.append(asyncio.create_task(_piece(bucket, upload_id, batch)))
            if len(ahead) > _AHEAD:
                yield await ahead.popleft()
        while ahead:
            yield await ahead.popleft()
    finally:
        for task in ahead:  # nobody reads on
            task.cancel()
        if ahead:
            await asyncio.gather(*ahead, return_exceptions=True)


class ObjectRecordings:
    """A RecordingFiles: the parts side by side into a local file, each at its place."""

    def __init__(self, bucket: Bucket, scratch: Scratch) -> None:
        self._bucket = bucket
        self._scratch = scratch

    async def open(self, upload_id: str, listing: Listing) -> int:
        total = listing.total_bytes
        whole = await self._scratch.run(self._scratch.file, total, dropped=os.close)
        try:
            fetches = iter(self._fetches(listing))
            async with asyncio.TaskGroup() as group:
                for _ in range(min(_FETCHES, 1 + total // PIECE + len(listing.parts))):
                    group.create_task(self._fetch(upload_id, whole, fetches))
            return await self._scratch.run(self._scratch.read_only, whole, dropped=os.close)
        except* errors.CosyGateError as several:
            raise _first(several) from None
        finally:
            await self._scratch.run(os.close, whole)

    def _fetches(self, listing: Listing) -> Iterator[tuple[int, list[Slice]]]:
        """Where in the file, and what."""
        at = 0
        for batch in batches(slices(listing, 0, listing.total_bytes), _FETCH):
            for one in batch:
                yield at, [one]
                at += one[2]

    async def _fetch(self, upload_id: str, whole: int, fetches: Iterator[tuple[int, list[Slice]]]) -> None:
        for at, batch in fetches:  # shared by all: each takes the next
            data = await _piece(self._bucket, upload_id, batch)
            await self._scratch.run(write_at, whole, data, at)
