"""Parts as objects, in thousands of interleavings: a store in memory that takes its time at every step, and lists no
instant but key by key, as a real one may (docs/adr/0016-parts-as-objects.md)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cosygate import errors
from cosygate.adapters.blobs_object.bucket import Found, Head
from cosygate.adapters.blobs_object.parts import ObjectParts
from cosygate.adapters.blobs_object.scratch import Scratch
from cosygate.adapters.blobs_object.tally import Tally
from cosygate.kit.clock import SystemClock
from cosygate.model.upload import LastMark, Listing
from tests.support.blob_stores import in_pieces


class SlowBucket:
    """A Bucket whose every step may be overtaken, in an order that a seed gives."""

    def __init__(self, seed: int) -> None:
        self.objects: dict[str, tuple[bytes, str | None, str]] = {}
        self._random = random.Random(seed)
        self._tags = 0
        self.lists = 0

    async def _dawdle(self) -> None:
        for _ in range(self._random.randrange(4)):
            await asyncio.sleep(0)

    async def create(self, key: str, data: Any, *, digest: str | None = None) -> bool:
        await self._dawdle()
        fresh = key not in self.objects
        if fresh:
            self._tags += 1
            self.objects[key] = bytes(data), digest, f"t{self._tags}"
        await self._dawdle()
        return fresh

    async def get(self, key: str, expected_bytes: int = 0) -> bytes | None:
        await self._dawdle()
        found = self.objects.get(key)
        await self._dawdle()
        return found[0] if found else None

    async def head(self, key: str) -> Head | None:
        await self._dawdle()
        found = self.objects.get(key)
        await self._dawdle()
        return Head(len(found[0]), found[1]) if found else None

    async def found(self, folder: str, after: str | None = None) -> list[Found]:
        """Looks at one key after the other, those that come up meanwhile included or not, forwards or backwards."""
        self.lists += 1
        await self._dawdle()
        told = []
        keys = sorted({*self.objects, *(f"{folder}/{name}" for name in _NAMES)}, reverse=self._random.random() < 0.5)
        for key in keys:
            if self._random.random() < 0.3:
                await asyncio.sleep(0)
            if key.startswith(f"{folder}/") and (after is None or key > after) and (one := self.objects.get(key)):
                told.append(Found(key, len(one[0]), one[2], datetime.now(UTC)))
        await self._dawdle()
        return sorted(told, key=lambda one: one.key)

    async def pages(self, folder: str, after: str | None = None) -> AsyncIterator[list[Found]]:
        yield await self.found(folder, after)

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            await self._dawdle()
            self.objects.pop(key, None)
        await self._dawdle()


_NAMES = [*(f"p{n:09d}" for n in range(9)), *(f"x{n:04d}" for n in range(9))]


class Desk:
    """Several processes on one store."""

    def __init__(self, seed: int, scratch: Scratch, processes: int = 3) -> None:
        self.bucket = SlowBucket(seed)
        clock = SystemClock()
        self.sides = [
            ObjectParts(
                self.bucket,  # type: ignore[arg-type]
                scratch,
                Tally(self.bucket, clock, max_bytes=1 << 40, count_every_s=1e9),  # type: ignore[arg-type]
            )
            for _ in range(processes)
        ]
        for side in self.sides:
            side._tally._due_at = float("inf")  # nothing here is about counting

    async def put(
        self, side: int, seq: int, data: bytes, last: int | None = None, *, create: bool = True, options: str = "{}"
    ) -> Listing:
        parts = self.sides[side % len(self.sides)]
        received = await parts.receive(in_pieces(data), limit=100)
        mark = LastMark(last, options) if last is not None else None
        try:
            return await parts.put("u", seq, received, mark, create=create)
        finally:
            await received.close()

    async def race(self, *puts: Coroutine[Any, Any, Any]) -> list[Any]:
        return await asyncio.gather(*puts, return_exceptions=True)

    def names(self) -> list[str]:
        return sorted(key.rpartition("/")[2] for key in self.bucket.objects)


SEEDS = range(150)


@pytest.fixture
async def scratch(tmp_path: Path) -> AsyncIterator[Scratch]:
    scratch = Scratch(tmp_path, 0, SystemClock())
    yield scratch
    await scratch.close()


async def test_whoever_completes_an_upload_sees_it_complete(scratch: Scratch) -> None:
    for seed in SEEDS:
        desk = Desk(seed, scratch)
        order = random.Random(seed).sample(range(5), 5)
        listings = await desk.race(*(desk.put(n, n, bytes([n]), 4 if n == 4 else None) for n in order))
        assert not [one for one in listings if isinstance(one, BaseException)], (seed, listings)
        assert any(one.complete for one in listings), seed
        assert (await desk.sides[0].list("u")).complete


async def test_of_a_mark_and_a_part_beyond_it_one_is_refused(scratch: Scratch) -> None:
    """Whatever the order, and with a third process that reads meanwhile."""
    won = set()
    for seed in SEEDS:
        desk = Desk(seed, scratch)
        await desk.put(0, 0, b"a")
        if seed % 3:
            await asyncio.gather(*(side.list("u") for side in desk.sides))
        marked, beyond, other = await desk.race(desk.put(1, 1, b"b", 1), desk.put(2, 2, b"c"), desk.put(0, 0, b"a"))
        assert isinstance(other, Listing)
        losers = [one for one in (marked, beyond) if not isinstance(one, Listing)]
        assert [type(one) for one in losers] == [errors.LastConflict], (seed, marked, beyond)
        for side in desk.sides:
            final = await side.list("u")
            expected = (Listing({0: 1, 1: 1}, LastMark(1, "{}")), Listing({0: 1, 2: 1}))
            assert final == expected[0 if isinstance(marked, Listing) else 1], seed
        refused = "p000000002" if isinstance(marked, Listing) else "p000000001"
        assert refused not in desk.names(), seed
        won.add(isinstance(marked, Listing))
    assert won == {True, False}  # both happened


async def test_of_several_marks_one_stands(scratch: Scratch) -> None:
    for seed in SEEDS:
        desk = Desk(seed, scratch)
        await desk.put(0, 0, b"a")
        outcomes = await desk.race(
            *(desk.put(n, n, bytes([n]), n, options=f'{{"by":{n}}}') for n in (1, 2, 3)),
            desk.put(0, 2, bytes([2]), 2, options='{"by":"other"}'),
        )
        stored = [one for one in outcomes if isinstance(one, Listing)]
        assert stored, seed
        assert all(isinstance(one, Listing | errors.LastConflict) for one in outcomes), (seed, outcomes)
        marks = {one.mark for one in stored}
        assert len(marks) == 1 and (await desk.sides[1].list("u")).mark in marks, seed


async def test_two_writers_of_one_part_have_one_winner(scratch: Scratch) -> None:
    for seed in SEEDS:
        desk = Desk(seed, scratch)
        outcomes = await desk.race(*(desk.put(n, 0, bytes([n % 2]) * 9) for n in range(6)))
        won = {n % 2 for n, one in enumerate(outcomes) if isinstance(one, Listing)}
        assert len(won) == 1, seed
        assert all(isinstance(one, Listing | errors.PartConflict) for one in outcomes)
        stored = next(data for key, (data, *_) in desk.bucket.objects.items() if key.endswith("p000000000"))
        assert stored == bytes([*won]) * 9


async def test_nothing_survives_an_erasure(scratch: Scratch) -> None:
    """What was acknowledged was so before; what comes late is deleted by whoever wrote it, its ledger too."""
    late = 0
    for seed in SEEDS:
        desk = Desk(seed, scratch)
        await desk.put(0, 0, b"a")
        await asyncio.gather(*(side.list("u") for side in desk.sides))
        outcomes = await desk.race(
            desk.put(0, 1, b"b", create=False),
            desk.put(1, 2, b"c", 2, create=False),
            desk.sides[2].erase("u"),
            desk.put(2, 3, b"d", create=False),
        )
        assert all(
            one is None or isinstance(one, Listing | errors.UploadNotFound | errors.LastConflict) for one in outcomes
        ), (seed, outcomes)
        late += any(isinstance(one, errors.UploadNotFound) for one in outcomes)
        assert desk.names() == [], seed
        with pytest.raises(errors.UploadNotFound):
            await desk.put(0, 1, b"b", create=False)
        assert await desk.sides[1].list("u") == Listing({})
    assert late


async def test_an_upload_that_is_begun_anew_has_nothing_of_its_first_life(scratch: Scratch) -> None:
    for seed in range(20):
        desk = Desk(seed, scratch)
        for n in range(3):
            await desk.put(0, n, b"old", 2 if n == 2 else None)
        assert (await desk.sides[1].list("u")).complete
        await desk.sides[2].erase("u")
        await desk.put(2, 1, b"other")
        for side in desk.sides:  # the first two remember another life
            assert await side.list("u") == Listing({1: 5})
        assert await desk.put(0, 0, b"x") == Listing({0: 1, 1: 5})


async def test_a_mark_whose_part_holds_other_bytes_already_leaves_no_mark(scratch: Scratch) -> None:
    """Also when that part comes while the mark is being decided."""
    conflicts = 0
    for seed in SEEDS:
        desk = Desk(seed, scratch)
        await desk.put(0, 0, b"a")
        marked, plain = await desk.race(desk.put(1, 1, b"mine", 1), desk.put(2, 1, b"yours"))
        assert [type(one) for one in (marked, plain) if not isinstance(one, Listing)] == [errors.PartConflict]
        conflicts += isinstance(plain, Listing)
    assert conflicts
    desk = Desk(0, scratch)
    await desk.put(0, 0, b"a")
    await desk.put(1, 1, b"yours")
    for _ in range(2):  # first by a process that remembers no part 1
        with pytest.raises(errors.PartConflict):
            await desk.put(0, 1, b"mine", 1)
    assert (await desk.sides[2].list("u")) == Listing({0: 1, 1: 5})


async def test_a_proposal_whose_answer_was_lost_is_still_our_own(scratch: Scratch) -> None:
    """It is told as there already; taken for somebody else's it would be left to stand."""
    desk = Desk(0, scratch)
    await desk.put(0, 0, b"a")
    await desk.put(1, 1, b"yours")
    create = desk.bucket.create

    async def lost(key: str, data: Any, *, digest: str | None = None) -> bool:
        return await create(key, data, digest=digest) and not key.endswith("x0001")

    desk.bucket.create = lost  # type: ignore[method-assign]
    with pytest.raises(errors.PartConflict):
        await desk.put(0, 1, b"mine", 1)
    assert (await desk.sides[2].list("u")) == Listing({0: 1, 1: 5})


async def test_a_torn_listing_is_made_again(scratch: Scratch) -> None:
    """It has passed the key of an entry before that was written, and found the next."""
    desk = Desk(0, scratch)
    await desk.put(0, 0, b"a")
    await desk.put(0, 1, b"b", 1)
    whole, torn = desk.bucket.found, 2

    async def found(folder: str, after: str | None = None) -> list[Found]:
        nonlocal torn
        torn -= 1
        return [one for one in await whole(folder, after) if torn < 0 or not one.key.endswith("x0001")]

    desk.bucket.found = found  # type: ignore[method-assign]
    assert (await desk.sides[1].list("u")).complete
    assert torn == -1
    torn = 100
    with pytest.raises(errors.StorageUnavailable):  # bounded
        await desk.sides[2].list("u")


async def test_a_mark_that_was_proposed_by_a_process_that_died_is_decided_by_the_next(scratch: Scratch) -> None:
    for then in ("the same again", "a part beyond it", "another mark"):
        desk = Desk(1, scratch)
        await desk.put(0, 0, b"a")
        proposing = asyncio.create_task(desk.put(0, 1, b"b", 1))
        while "x0001" not in desk.names():
            await asyncio.sleep(0)
        proposing.cancel()
        await asyncio.gather(proposing, return_exceptions=True)
        assert desk.names() == ["p000000000", "x0000", "x0001"]
        assert await desk.sides[1].list("u") == Listing({0: 1})
        if then == "the same again":
            assert (await desk.put(1, 1, b"b", 1)).complete
        elif then == "a part beyond it":
            assert await desk.put(1, 2, b"c") == Listing({0: 1, 2: 1})
            with pytest.raises(errors.LastConflict):
                await desk.put(0, 1, b"b", 1)
            assert await desk.sides[2].list("u") == Listing({0: 1, 2: 1})
        else:  # one that is unacknowledged may stand, as after any crash, but never both
            with pytest.raises(errors.LastConflict):
                await desk.put(1, 2, b"c", 2)
            assert (await desk.put(0, 1, b"b", 1)).complete


async def test_an_upload_in_order_costs_two_requests_a_part(scratch: Scratch) -> None:
    desk = Desk(0, scratch, processes=1)
    sent = []
    found = desk.bucket.found

    async def counted(folder: str, after: str | None = None) -> list[Found]:
        told = await found(folder, after)
        sent.append(len(told))
        return told

    desk.bucket.found = counted  # type: ignore[method-assign]
    for n in range(8):
        await desk.put(0, n, b"x")
    assert len(sent) == 8  # one listing each,
    assert max(sent) <= 3  # which is told what is new, and the ledger
