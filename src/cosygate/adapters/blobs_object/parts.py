"""The parts of recordings: how one gets in, and what refuses it, without transactions.

A store promises that each object is written whole by one of those who create it, and that a listing has whatever was
written, and lacks whatever was deleted, before it began. It promises nothing about several objects, and no listing is
of an instant. So everything here is: write, then look (docs/adr/0016-parts-as-objects.md has the interleavings).
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from cosygate import errors
from cosygate.adapters.blobs_object.body import Body
from cosygate.adapters.blobs_object.bucket import Bucket
from cosygate.adapters.blobs_object.ledger import (
    PLACE,
    UPLOADS,
    entry_key,
    folder,
    is_part,
)
from cosygate.adapters.blobs_object.listings import Listings
from cosygate.adapters.blobs_object.putting import ROUNDS, Put, beyond
from cosygate.adapters.blobs_object.reading import read_pieces
from cosygate.adapters.blobs_object.scratch import Scratch
from cosygate.adapters.blobs_object.tally import Tally
from cosygate.model.upload import LastMark, Listing
from cosygate.ports.blobs import Received


class ObjectParts:
    """A PartStore."""

    def __init__(self, bucket: Bucket, scratch: Scratch, tally: Tally) -> None:
        self._bucket = bucket
        self._scratch = scratch
        self._tally = tally
        self._listings = Listings(bucket)

    async def receive(
        self, body: AsyncIterator[bytes], *, limit: int, sha256: bytes | None = None, sha512: bytes | None = None
    ) -> Body:
        received = Body(self._scratch, limit, sha256, sha512)
        try:
            async for piece in body:
                await received.gather(piece)
                if received.spilled:
                    self._tally.check(received.size)
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
        if mark is not None and seq > mark.last_seq:
            raise beyond(seq, mark)
        putting = Put(self._bucket, self._listings, self._tally, upload_id, seq, received)
        return await putting.run(mark, max_bytes, create)

    async def list(self, upload_id: str) -> Listing:
        return (await self._listings.look(upload_id)).listing()

    def read(self, upload_id: str, listing: Listing, start: int, length: int) -> AsyncIterator[bytes]:
        return read_pieces(self._bucket, upload_id, listing, start, length)

    async def erase(self, upload_id: str) -> None:
        """The place first: from then on nothing that is written here is acknowledged. Then what a listing finds, which
        has all that was acknowledged before."""
        self._listings.forget(upload_id)
        for _ in range(ROUNDS):
            await self._bucket.delete([entry_key(upload_id, PLACE)])
            found = await self._bucket.found(folder(UPLOADS, upload_id))
            if entry_key(upload_id, PLACE) in {one.key for one in found}:
                continue  # begun anew since
            await self._bucket.delete([one.key for one in found])
            self._tally.freed(sum(one.size for one in found if is_part(one.key)))
            return
        raise errors.StorageUnavailable("the upload is begun anew while it is erased")
