"""What is stored of each upload, by listing it. Parts and entries never change, so what one listing has told need not
be asked again: the next begins behind the parts that are known without a gap, which makes it one request for an upload
that is sent in order, however long it is."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from cosygate import errors
from cosygate.adapters.blobs_object.bucket import Bucket, Found
from cosygate.adapters.blobs_object.ledger import (
    PLACE,
    UPLOADS,
    Entry,
    Kind,
    State,
    entry_key,
    folder,
    numbered,
    parse,
    part_key,
    says_nothing,
    told,
)

REMEMBERED = 100_000  # parts and entries (an upload counts as one more), some 20 MB
_LOOKS = 5  # at an upload that is erased, or begun anew, while it is being looked at


class Known:
    """What this process has seen of one upload in one life: from its place to its erasure."""

    __slots__ = ("entries", "life", "parts", "whole")

    def __init__(self) -> None:
        self.life: str | None = None  # the place's tag
        self.parts: dict[int, int] = {}
        self.entries: dict[int, Entry] = {}
        self.whole = -1  # all parts up to this one are in `parts`

    def state(self) -> State:
        mark, proposal = told([self.entries[n] for n in range(len(self.entries))])
        return State(dict(self.parts), mark, proposal, len(self.entries))

    def held(self) -> int:
        return 1 + len(self.parts) + len(self.entries)


class Listings:
    """A bounded memory of uploads, least recently used forgotten first."""

    def __init__(self, bucket: Bucket, remembered: int = REMEMBERED) -> None:
        self._bucket = bucket
        self._bound = remembered
        self._held = 0
        self._known: OrderedDict[str, Known] = OrderedDict()

    def remembered(self, upload_id: str) -> State | None:
        """As of the last look; None when there is none."""
        known = self._known.get(upload_id)
        return known.state() if known is not None and known.life is not None else None

    def forget(self, upload_id: str) -> None:
        if (known := self._known.pop(upload_id, None)) is not None:
            self._held -= known.held()

    async def look(self, upload_id: str) -> State:
        """By a listing that begins now: it has everything whose PUT has ended before. Raises StorageUnavailable."""
        for _ in range(_LOOKS):
            known = self._entry(upload_id)
            whole = known.whole
            after = part_key(upload_id, whole) if whole >= 0 else None
            found = await self._bucket.found(folder(UPLOADS, upload_id), after)
            parts, ledger = _sorted(found)
            if PLACE not in ledger:
                self.forget(upload_id)
                return State()
            if self._known.get(upload_id) is not known or known.life not in (None, ledger[PLACE].tag):
                self.forget(upload_id)  # another life than the one whose parts we left out
                continue
            fresh = await self._read(upload_id, known, ledger)
            if fresh is None or self._known.get(upload_id) is not known:
                continue
            self._merge(known, ledger[PLACE].tag, parts, fresh)
            return known.state()
        raise errors.StorageUnavailable("the upload is being erased and begun anew")

    def _entry(self, upload_id: str) -> Known:
        if (known := self._known.get(upload_id)) is None:
            known = self._known[upload_id] = Known()
            self._held += known.held()
        self._known.move_to_end(upload_id)
        return known

    async def _read(self, upload_id: str, known: Known, ledger: dict[int, Found]) -> dict[int, Entry] | None:
        """The entries that are not known yet. None when the listing was torn (a store need not show an instant: it may
        have passed an entry's key before it was written, and seen the next), or an entry is gone."""
        numbers = [n for n in sorted(ledger) if n not in known.entries]
        if any(n not in ledger for n in range(max(ledger) + 1)):
            return None
        nothing = Entry(Kind.NOTHING)
        read = {n: nothing for n in numbers if says_nothing(ledger[n].size)}
        unread = [n for n in numbers if n not in read]
        for n, data in zip(
            unread, await asyncio.gather(*(self._bucket.get(entry_key(upload_id, n)) for n in unread)), strict=True
        ):
            if data is None:
                return None
            read[n] = parse(data)
        return read

    def _merge(self, known: Known, life: str, parts: dict[int, int], entries: dict[int, Entry]) -> None:
        before = known.held()
        known.life = life
        known.parts.update(parts)
        known.entries.update(entries)
        while known.whole + 1 in known.parts:
            known.whole += 1
        self._held += known.held() - before
        while self._held > self._bound and len(self._known) > 1:
            _, oldest = self._known.popitem(last=False)
            self._held -= oldest.held()


def _sorted(found: list[Found]) -> tuple[dict[int, int], dict[int, Found]]:
    parts: dict[int, int] = {}
    ledger: dict[int, Found] = {}
    for one in found:
        match numbered(one.key):
            case ("p", seq):
                parts[seq] = one.size
            case ("x", number):
                ledger[number] = one
            case _:
                pass  # not ours
    return parts, ledger
