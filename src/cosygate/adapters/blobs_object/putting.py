"""How a part gets into an upload, and what refuses it, without transactions (docs/adr/0016-parts-as-objects.md).

1. The place (entry 0) is created if it may be; whoever finds it uses it.
2. A mark is decided before its part is written: propose it (entry n), look, write the verdict (entry n+1). Whoever
   puts a part beyond a proposal looks after its own write, finds the proposal, and writes the verdict, too: one of the
   two verdicts is written, and both obey it.
3. The part is created under its seq; when it is there, its digest is compared.
4. A look. No place: erased meanwhile, so what this put has written is deleted again. A part beyond the mark likewise.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from cosygate import errors
from cosygate.adapters.blobs_object.body import Body
from cosygate.adapters.blobs_object.bucket import Bucket
from cosygate.adapters.blobs_object.ledger import PLACE, Entry, Kind, State, entry_key, part_key
from cosygate.adapters.blobs_object.listings import Listings
from cosygate.adapters.blobs_object.tally import Tally
from cosygate.model.upload import LastMark, Listing

ROUNDS = 8  # of whatever others may undo or overtake


class Put:
    """One put. `made`: what it has written itself."""

    def __init__(self, bucket: Bucket, listings: Listings, tally: Tally, upload_id: str, seq: int, body: Body) -> None:
        self._bucket = bucket
        self._listings = listings
        self._tally = tally
        self._upload = upload_id
        self._seq = seq
        self._body = body
        self._made: list[str] = []
        self._created = False  # the part
        self._held = 0  # bytes of room

    async def run(self, mark: LastMark | None, max_bytes: int | None, create: bool) -> Listing:
        try:
            return (await self._run(mark, max_bytes, create)).listing()
        except errors.UploadNotFound:  # erased: what was written after that is nobody's
            self._listings.forget(self._upload)
            await self._undo(self._made)
            raise
        finally:
            self._tally.give_back(self._held)

    async def _run(self, mark: LastMark | None, max_bytes: int | None, create: bool) -> State:
        size = self._body.size
        state = self._listings.remembered(self._upload)
        if not self._tally.fits(size):
            state = await self._look(may_lack=create)  # a repeat needs no room
        elif state is None and create and (max_bytes is None or size <= max_bytes):
            self._take()
            state = await self._begin(mark)
        state = state or await self._look(may_lack=create)
        there = False
        if self._seq in state.parts:  # compared, not sent
            same = await self._same()
            if same is not True:
                state = await self._look()
            if same is False:
                raise self._conflict()
            there = same is True
        if not there:
            if max_bytes is not None and sum(state.parts.values()) + size > max_bytes:
                raise errors.RecordingTooLarge(f"a recording is at most {max_bytes} bytes", limit=max_bytes)
            self._take()
        if not state.placed:
            state = await self._begin(mark) or await self._look()
        if self._contradicts(state, mark):
            state = await self._look()  # it may have been erased since
        self._refuse(state, mark)
        if mark is not None and state.mark is None:
            self._refuse(await self._decided(mark, state), mark)
        if not there:
            await self._store()
        return await self._accepted()

    def _take(self) -> None:
        """Raises StorageFull."""
        if not self._held:
            self._tally.take(self._body.size)
            self._held = self._body.size

    async def _look(self, *, may_lack: bool = False) -> State:
        """Raises UploadNotFound when it has no place."""
        state = await self._listings.look(self._upload)
        if not (state.placed or may_lack):
            raise errors.UploadNotFound()
        return state

    async def _begin(self, mark: LastMark | None) -> State | None:
        """Makes the place; None when it is there."""
        entry = Entry(Kind.MARK, mark) if mark is not None else Entry(Kind.NOTHING)
        if not await self._append(PLACE, entry):
            return None
        return State(mark=mark, entries=1)

    async def _append(self, number: int, entry: Entry) -> bool:
        """Whether this entry is the one under that number."""
        key, data = entry_key(self._upload, number), entry.to_bytes()
        written = await self._bucket.create(key, data)
        if number == PLACE:  # shared with whoever finds it: not ours to delete, and no matter whose it is
            return written
        # When it is there it may be ours all the same: an attempt that was cut off had arrived, and was made again.
        if not written and await self._bucket.get(key) != data:
            return False
        self._made.append(key)
        return True

    # --- a mark ----------------------------------------------------------------------------------------------------

    def _contradicts(self, state: State, mark: LastMark | None) -> bool:
        stands = state.mark
        return stands is not None and (
            self._seq > stands.last_seq or (mark is not None and mark.last_seq != stands.last_seq)
        )

    def _refuse(self, state: State, mark: LastMark | None) -> None:
        """Raises LastConflict."""
        if state.mark is not None:
            if mark is not None and mark.last_seq != state.mark.last_seq:
                last = state.mark.last_seq
                raise errors.LastConflict(f"the last chunk is {last} already", last_seq=last)
            if self._seq > state.mark.last_seq:
                raise beyond(self._seq, state.mark)
        elif mark is not None and state.beyond(mark.last_seq):
            raise beyond(max(state.parts), mark)

    async def _decided(self, mark: LastMark, state: State) -> State:
        """Until a mark stands: this one, or another's. Raises LastConflict and PartConflict when it is refused."""
        ours = -1  # our proposal's number
        for _ in range(ROUNDS):
            if state.mark is not None:
                return state
            if state.proposal is None:
                self._refuse(state, mark)
                if await self._append(state.entries, Entry(Kind.MARK, mark)):
                    ours = state.entries
            state = await self._verdict(ours)
        raise errors.StorageUnavailable("others name last chunks of this upload")

    async def _verdict(self, ours: int) -> State:
        """Decides the proposal that is there, whosever it is: a look that begins now has all parts that were accepted
        before it was made."""
        state = await self._look()
        if state.proposal is None:
            return state
        refused = state.beyond(state.proposal.last_seq)
        # Our own part holds other bytes: then this put is refused, and must leave no mark.
        own = ours == state.entries - 1
        conflict = own and not refused and self._seq in state.parts and await self._same() is False
        kind = Kind.REFUSED if refused or conflict else Kind.STANDS
        written = await self._append(state.entries, Entry(kind))
        if conflict:
            raise self._conflict()
        if written and kind is Kind.STANDS:
            return replace(state, mark=state.proposal, proposal=None, entries=state.entries + 1)
        return await self._look()

    # --- a part ----------------------------------------------------------------------------------------------------

    async def _same(self) -> bool | None:
        """Whether the part that is stored has these bytes; None when there is none."""
        key = part_key(self._upload, self._seq)
        head = await self._bucket.head(key)
        if head is None:
            return None
        if head.size != self._body.size:
            return False
        if head.digest is not None:
            return head.digest == self._body.digest
        stored = await self._bucket.get(key, head.size)  # somebody copied it here, without its metadata
        return None if stored is None else stored == bytes(self._body.data())

    def _conflict(self) -> errors.PartConflict:
        return errors.PartConflict(f"seq {self._seq} holds other bytes already", seq=self._seq)

    async def _store(self) -> None:
        key = part_key(self._upload, self._seq)
        for _ in range(ROUNDS):
            if await self._bucket.create(key, self._body.data(), digest=self._body.digest):
                self._made.append(key)
                self._created = True
                self._tally.stored(self._held)
                self._held = 0
                return
            same = await self._same()
            if same is not None:
                if not same:
                    await self._look()
                    raise self._conflict()
                return
        raise errors.StorageUnavailable("the part is erased and written anew")

    async def _accepted(self) -> State:
        """The look after the write. Raises UploadNotFound, LastConflict."""
        state = await self._look()
        if self._seq not in state.parts:
            raise errors.UploadNotFound()  # erased, and begun anew
        for _ in range(ROUNDS):
            if state.proposal is None or not state.beyond(state.proposal.last_seq):
                break
            await self._append(state.entries, Entry(Kind.REFUSED))  # or another verdict was there before
            state = await self._look()
        if state.mark is not None and self._seq > state.mark.last_seq:
            if self._created:
                await self._undo([part_key(self._upload, self._seq)])
            raise beyond(self._seq, state.mark)
        return state

    async def _undo(self, keys: list[str]) -> None:
        """What stays because the store is away is hidden (beyond a mark) or has no place (`StoreSurvey.uploads`)."""
        with suppress(errors.Unavailable):
            await self._bucket.delete(keys)
            if self._created:
                self._tally.freed(self._body.size)


def beyond(seq: int, mark: LastMark) -> errors.LastConflict:
    last = mark.last_seq
    return errors.LastConflict(f"chunk {seq} lies beyond the last, {last}", last_seq=last)
