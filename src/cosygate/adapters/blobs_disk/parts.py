"""The parts of recordings: how one gets its name, so that what is acknowledged stays and what is refused never was.

`put` runs in one thread, in this order:
1. The bytes go to a file without a name, which is fsynced; so does the mark, if there is one. Nobody sees them.
2. The upload's folder is locked (flock): shared by puts of parts, alone by a put with a mark. Under the lock no mark
   can appear beside a part that it would refuse, nor the other way round, so every refusal is decided *before* a name
   is given. Undoing instead of locking would not do: between a link and its undoing another process may have counted
   it, seen a complete upload, and acknowledged it.
3. link() gives the name, exclusively; it goes by path, so after `erase` has moved the folder away it finds nothing.
4. The lock goes, the folder is listed, then fsynced: in this order, so that all that the listing tells is durable, also
   names that another process has linked and not fsynced yet.
A crash before 3 leaves nothing (or a file in tmp/, for `sweep`); after it, a part that was not acknowledged, which the
client's retry finds equal. A crash between a part's link and its mark's is the same: the retry adds the mark.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from cosygate import errors
from cosygate.adapters.blobs_disk.body import Body
from cosygate.adapters.blobs_disk.disk import Disk
from cosygate.adapters.blobs_disk.listings import Listings
from cosygate.adapters.blobs_disk.place import Place, Places, mark_bytes
from cosygate.adapters.blobs_disk.reading import read_pieces
from cosygate.adapters.blobs_disk.room import Room
from cosygate.adapters.blobs_disk.trash import throw_away
from cosygate.model.upload import LastMark, Listing
from cosygate.ports.blobs import Received


class DiskParts:
    """A PartStore."""

    def __init__(self, disk: Disk, room: Room, lock_wait_s: float) -> None:
        self._disk = disk
        self._room = room
        self._places = Places(disk, lock_wait_s)
        self._listings = Listings()

    async def receive(
        self, body: AsyncIterator[bytes], *, limit: int, sha256: bytes | None = None, sha512: bytes | None = None
    ) -> Body:
        received = Body(self._disk, self._room, limit, sha256, sha512)
        received.begin()
        try:
            async for piece in body:
                await received.gather(piece)
            await received.check()
        except BaseException:
            await received.close()
            raise
        return received

    async def put(
        self,
        upload_id: str,
        seq: int,
        received: Received,
        mark: LastMark | None = None,
        *,
        max_bytes: int | None = None,
        create: bool = False,
    ) -> Listing:
        if not isinstance(received, Body):
            raise TypeError("this store stores what it received itself")
        return await self._disk.put(self._put, upload_id, seq, received, mark, max_bytes, create)

    async def list(self, upload_id: str) -> Listing:
        return await self._disk.run(self._list, upload_id)

    def read(self, upload_id: str, listing: Listing, start: int, length: int) -> AsyncIterator[bytes]:
        return read_pieces(self._disk, self._disk.upload_folder(upload_id), listing, start, length)

    async def erase(self, upload_id: str) -> None:
        await self._disk.run(self._erase, upload_id)

    # --- in a thread -----------------------------------------------------------------------------------------------

    def _put(
        self, upload_id: str, seq: int, body: Body, mark: LastMark | None, max_bytes: int | None, create: bool
    ) -> Listing:
        place = self._places.find(upload_id)
        if place is None and not create:
            raise errors.UploadNotFound()
        known = self._listings.known(upload_id)
        marking = Body.of(mark_bytes(mark), self._disk, self._room) if mark and not known.mark else None
        try:
            if not (place and place.has(seq)):  # a repeat is compared, not written: it needs no room
                if max_bytes is not None and sum(known.parts.values()) + body.size > max_bytes:
                    raise errors.RecordingTooLarge(f"a recording is at most {max_bytes} bytes", limit=max_bytes)
                body.settle(near=place.path if place else None)
            if marking:
                marking.settle()
            place = place or self._places.make(upload_id)
            with place.locked(alone=mark is not None):
                stored = known.mark = known.mark or place.mark()
                _refuse(place, seq, mark, stored)
                if body.link(place.part(seq)):
                    self._listings.add(upload_id, seq, body.size)
                elif not body.equals(place.part(seq)):
                    raise errors.PartConflict(f"seq {seq} holds other bytes already", seq=seq)
                if marking and not stored and marking.link(place.last()):
                    known.mark = mark
            body.discard()  # here, so that closing it costs no second hop
            return self._durable_listing(place)
        except FileNotFoundError:  # erased under our hands
            self._listings.forget(upload_id)
            raise errors.UploadNotFound() from None
        finally:
            if marking:
                marking.discard()
            if place:
                place.close()

    def _durable_listing(self, place: Place) -> Listing:
        listing = self._listings.read(place.upload_id, place.fd)
        self._disk.sync(place.fd)
        known = self._listings.known(place.upload_id)
        if not known.rooted:  # whoever made the folder may not have come this far
            self._disk.sync_parents(place.path)
            known.rooted = True
        return listing

    def _list(self, upload_id: str) -> Listing:
        if (place := self._places.find(upload_id)) is None:
            self._listings.forget(upload_id)
            return Listing({})
        try:
            return self._durable_listing(place)
        finally:
            place.close()

    def _erase(self, upload_id: str) -> None:
        self._listings.forget(upload_id)
        throw_away(self._disk, self._room, self._disk.upload_folder(upload_id))


def _refuse(place: Place, seq: int, mark: LastMark | None, stored: LastMark | None) -> None:
    """Raises LastConflict when this part, this mark and what is stored contradict each other. Under the lock."""
    last = stored or mark
    if last is None:
        return
    if mark and mark.last_seq != last.last_seq:
        raise errors.LastConflict(f"the last chunk is {last.last_seq} already", last_seq=last.last_seq)
    highest = seq if stored else max(seq, place.highest())
    if highest > last.last_seq:
        raise errors.LastConflict(f"chunk {highest} lies beyond the last, {last.last_seq}", last_seq=last.last_seq)
