"""The contract of ports/blobs.py, over every store in tests/support/blob_stores.py."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cosygate import errors
from cosygate.model.upload import LastMark, Listing
from tests.support.blob_stores import EXACT, STORES, Opener, Store, in_pieces, put, read, turns

ROOM = 64 * 1024**2
MIB = 1024**2


@pytest.fixture(params=STORES)
def opener(request: pytest.FixtureRequest) -> Opener:
    return STORES[request.param]


@pytest.fixture
async def store(opener: Opener, tmp_path: Path) -> AsyncIterator[Store]:
    async with opener(tmp_path / "store", ROOM) as opened:
        yield opened


@pytest.fixture
async def stranger(opener: Opener, tmp_path: Path, store: Store) -> AsyncIterator[Store]:
    """The same store, seen by somebody who shares no memory with `store`."""
    async with opener(tmp_path / "store", ROOM) as opened:
        yield opened


# --- receive -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 200_000, MIB, MIB + 1, 3 * MIB + 17])
async def test_a_body_comes_back_as_it_was_sent(store: Store, size: int) -> None:
    data = random.Random(size).randbytes(size)
    listing = await put(store, "u1", 0, data)
    assert listing == Listing({0: size})
    assert await read(store, "u1", listing) == data


@pytest.mark.parametrize("limit", [100, 2 * MIB])
async def test_a_body_over_the_limit_is_refused_without_reading_on(store: Store, limit: int) -> None:
    read_on = False

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read_on
        for _ in range(2 * limit // 100):
            yield bytes(100)
        read_on = True

    with pytest.raises(errors.ChunkTooLarge):
        await store.parts.receive(endless(), limit=limit)
    assert not read_on
    assert await store.survey.used_bytes() == 0


@pytest.mark.parametrize("size", [10, 300_000, 2 * MIB])
async def test_digests_are_checked(store: Store, size: int) -> None:
    data = random.Random(size).randbytes(size)
    right = {"sha256": hashlib.sha256(data).digest(), "sha512": hashlib.sha512(data).digest()}
    received = await store.parts.receive(in_pieces(data), limit=size, **right)
    assert received.size == size
    await received.close()
    for name in right:
        with pytest.raises(errors.DigestMismatch):
            await store.parts.receive(in_pieces(data), limit=size, **{**right, name: b"\0" * len(right[name])})
    assert await store.survey.used_bytes() == 0


async def test_what_the_body_raises_passes_through(store: Store) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield bytes(3 * MIB)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.parts.receive(cut(), limit=8 * MIB)
    assert await store.survey.used_bytes() == 0


async def test_an_unstored_body_leaves_nothing(store: Store) -> None:
    received = await store.parts.receive(in_pieces(bytes(3 * MIB)), limit=8 * MIB)
    await received.close()
    await received.close()
    assert await store.survey.used_bytes() == 0
    assert await store.survey.uploads() == {}


# --- put ---------------------------------------------------------------------------------------------------------


async def test_parts_in_any_order_and_in_parallel(store: Store) -> None:
    parts = {seq: random.Random(seq).randbytes(1000 + seq) for seq in range(40)}
    order = random.Random(1).sample(sorted(parts), len(parts))
    mark = LastMark(39, '{"language":"en"}')
    listings = await asyncio.gather(*(put(store, "u1", s, parts[s], mark if s == 39 else None) for s in order))
    assert any(listing.complete for listing in listings)  # whoever came last saw everything
    final = await store.parts.list("u1")
    assert final.complete and final.mark == mark
    assert await read(store, "u1", final) == b"".join(parts[s] for s in sorted(parts))


async def test_seq_9999_comes_before_10000(store: Store) -> None:
    await put(store, "u1", 10_000, b"b")
    listing = await put(store, "u1", 9_999, b"a")
    assert await read(store, "u1", listing) == b"ab"


@pytest.mark.parametrize("size", [5, 200_000, 2 * MIB])
async def test_a_repeat_is_fine_and_other_bytes_are_not(store: Store, stranger: Store, size: int) -> None:
    data = random.Random(size).randbytes(size)
    await put(store, "u1", 0, data)
    used = await store.survey.used_bytes()
    for other in (bytes(size), data[:-1], data + b"x", b""):
        for side in (store, stranger):
            assert await put(side, "u1", 0, data) == Listing({0: size})
            with pytest.raises(errors.PartConflict):
                await put(side, "u1", 0, other)
    assert await read(store, "u1", Listing({0: size})) == data
    assert await store.survey.used_bytes() == used


async def test_a_refused_body_can_be_put_elsewhere(store: Store) -> None:
    await put(store, "u1", 0, b"first")
    received = await store.parts.receive(in_pieces(b"second"), limit=100)
    with pytest.raises(errors.PartConflict):
        await store.parts.put("u1", 0, received)
    with pytest.raises(errors.UploadNotFound):
        await store.parts.put("u2", 0, received)
    assert await store.parts.put("u1", 1, received) == Listing({0: 5, 1: 6})
    await received.close()
    assert await read(store, "u1", Listing({0: 5, 1: 6})) == b"firstsecond"


async def test_the_mark_stands(store: Store, stranger: Store) -> None:
    first = LastMark(2, '{"language":"en"}')
    listing = await put(store, "u1", 2, b"c", first)
    assert listing == Listing({2: 1}, first)
    for side in (store, stranger):
        again = await put(side, "u1", 2, b"c", LastMark(2, '{"language":"de"}'))
        assert again.mark == first  # the stored options stand
        with pytest.raises(errors.LastConflict):
            await put(side, "u1", 1, b"b", LastMark(1, "{}"))
        with pytest.raises(errors.LastConflict):
            await put(side, "u1", 3, b"d")
        with pytest.raises(errors.LastConflict):
            await put(side, "u1", 3, b"d", LastMark(2, "{}"))
        assert await side.parts.list("u1") == Listing({2: 1}, first)


async def test_a_mark_below_a_stored_part_is_refused_with_its_part(store: Store, stranger: Store) -> None:
    await put(store, "u1", 7, b"h")
    used = await store.survey.used_bytes()
    for side in (store, stranger):
        with pytest.raises(errors.LastConflict):
            await put(side, "u1", 5, b"f", LastMark(5, "{}"))
    assert await store.parts.list("u1") == Listing({7: 1})
    assert await store.survey.used_bytes() == used


async def test_a_part_beyond_the_recordings_bound_is_refused_and_leaves_nothing(store: Store, stranger: Store) -> None:
    await put(store, "u1", 0, b"12345", max_bytes=10)
    await put(store, "u1", 1, b"12345", max_bytes=10)
    used = await store.survey.used_bytes()
    with pytest.raises(errors.RecordingTooLarge):
        await put(store, "u1", 2, b"1", max_bytes=10)
    assert (await put(store, "u1", 1, b"12345", max_bytes=10)).total_bytes == 10  # a repeat adds nothing
    assert await stranger.parts.list("u1") == Listing({0: 5, 1: 5})
    assert await store.survey.used_bytes() == used


async def test_marks_and_parts_beyond_them_race_to_one_outcome(store: Store, stranger: Store) -> None:
    """Whoever wins, no listing ever holds a mark and a part beyond it, and no answer tells of what is refused later."""
    for turn in range(turns(store, 30)):
        upload = f"race{turn}"
        await put(store, upload, 0, b"a")
        puts = [put(stranger, upload, 1, b"b", LastMark(1, "{}")), put(store, upload, 2, b"c")]
        outcomes = await asyncio.gather(*(puts if turn % 2 else reversed(puts)), return_exceptions=True)
        refused = [one for one in outcomes if isinstance(one, BaseException)]
        assert [type(one) for one in refused] == [errors.LastConflict]
        final = await store.parts.list(upload)
        assert final in (Listing({0: 1, 1: 1}, LastMark(1, "{}")), Listing({0: 1, 2: 1}))


async def test_two_writers_of_one_seq_have_one_winner(store: Store, stranger: Store) -> None:
    for turn in range(turns(store, 20)):
        upload = f"race{turn}"
        bodies = [bytes([who]) * 5000 for who in range(8)]
        outcomes = await asyncio.gather(
            *(put(side, upload, 0, body) for side, body in zip([store, stranger] * 4, bodies, strict=True)),
            return_exceptions=True,
        )
        won = [who for who, one in enumerate(outcomes) if isinstance(one, Listing)]
        assert len(won) == 1
        assert all(isinstance(one, Listing | errors.PartConflict) for one in outcomes)
        assert await read(store, upload, Listing({0: 5000})) == bodies[won[0]]


# --- places ------------------------------------------------------------------------------------------------------


async def test_an_upload_has_a_place_from_its_first_part_until_it_is_erased(store: Store, stranger: Store) -> None:
    with pytest.raises(errors.UploadNotFound):
        await put(store, "u1", 0, b"a", create=False)
    assert await store.parts.list("u1") == Listing({})
    await put(store, "u1", 0, b"a", create=True)
    await put(stranger, "u1", 1, b"b", create=False)
    assert list(await store.survey.uploads()) == ["u1"]
    await stranger.parts.erase("u1")
    await stranger.parts.erase("u1")
    for side in (store, stranger):
        with pytest.raises(errors.UploadNotFound):
            await put(side, "u1", 1, b"b", create=False)
        assert await side.parts.list("u1") == Listing({})
    assert await store.survey.uploads() == {}
    assert await store.survey.used_bytes() == 0


async def test_erasing_races_with_puts(store: Store, stranger: Store) -> None:
    for turn in range(turns(store, 20)):
        upload = f"race{turn}"
        await put(store, upload, 0, b"a")
        puts = [put(store, upload, seq, bytes(100), create=False) for seq in range(1, 9)]
        outcomes = await asyncio.gather(*puts[:4], stranger.parts.erase(upload), *puts[4:], return_exceptions=True)
        assert all(one is None or isinstance(one, Listing | errors.UploadNotFound) for one in outcomes)
        assert await store.parts.list(upload) == Listing({})
    assert await store.survey.uploads() == {}
    assert await store.survey.used_bytes() == 0


async def test_uploads_tell_their_age(store: Store) -> None:
    await put(store, "u1", 0, b"a")
    assert 0 <= (await store.survey.uploads())["u1"] < 30


# --- read and open -----------------------------------------------------------------------------------------------


async def test_ranges_across_parts(store: Store) -> None:
    sizes = [10, 0, MIB, 3, 2 * MIB + 5, 1]
    data = [random.Random(n).randbytes(size) for n, size in enumerate(sizes)]
    for seq, part in enumerate(data):
        listing = await put(store, "u1", seq, part)
    whole = b"".join(data)
    for start, length in [(0, len(whole)), (0, 1), (9, 2), (10, MIB), (MIB, MIB), (len(whole) - 1, 1), (5, 0)]:
        assert await read(store, "u1", listing, start, length) == whole[start : start + length]
    pieces = [len(piece) async for piece in store.parts.read("u1", listing, 0, len(whole))]
    assert max(pieces) <= MIB
    assert len(pieces) <= 5  # small parts travel together


async def test_reading_what_is_erased(store: Store) -> None:
    listing = await put(store, "u1", 0, b"a")
    await store.parts.erase("u1")
    with pytest.raises(errors.AudioGone):
        await read(store, "u1", listing)
    with pytest.raises(errors.AudioGone):
        await store.recordings.open("u1", listing)


@pytest.mark.parametrize("sizes", [[], [0], [70_000], [3, 0, 5], [0, 4], [MIB] * 3 + [17]])
async def test_a_recording_is_one_read_only_file(store: Store, sizes: list[int]) -> None:
    data = [random.Random(n).randbytes(size) for n, size in enumerate(sizes)]
    listing = Listing({})
    for seq, part in enumerate(data):
        listing = await put(store, "u1", seq, part)
    fd = await store.recordings.open("u1", listing)
    try:
        with open(fd, "rb", closefd=False) as file:
            assert file.read() == b"".join(data)
            assert file.seek(2) == 2  # seekable, as MP4 needs
            assert file.read(4) == b"".join(data)[2:6]
        with pytest.raises(OSError):
            os.write(fd, b"x")
    finally:
        os.close(fd)


async def test_a_recording_that_is_erased_stays_open(store: Store) -> None:
    await put(store, "u1", 0, b"ab")
    listing = await put(store, "u1", 1, b"cd")
    fd = await store.recordings.open("u1", listing)
    await store.parts.erase("u1")
    with open(fd, "rb") as file:
        assert file.read() == b"abcd"


# --- results -----------------------------------------------------------------------------------------------------


async def test_results_by_job_and_fence(store: Store, stranger: Store) -> None:
    assert await store.results.get("j1", 1) is None
    await store.results.put("j1", 1, b"one")
    await store.results.put("j1", 2, b"two")
    await store.results.put("j1", 2, b"two again")
    await store.results.put("j2", 1, b"other")
    assert await stranger.results.get("j1", 1) == b"one"
    assert await stranger.results.get("j1", 2) == b"two again"
    await stranger.results.erase("j1", 1)
    await stranger.results.erase("j1", 1)
    assert await store.results.get("j1", 1) is None
    assert await store.results.get("j1", 2) == b"two again"
    await store.results.erase("j1")
    await store.results.erase("j1")
    assert await store.results.get("j1", 2) is None
    assert await store.results.get("j2", 1) == b"other"
    await store.results.erase("j2", 1)
    assert await store.survey.used_bytes() == 0


async def test_results_are_whole_while_they_are_replaced_and_erased(store: Store, stranger: Store) -> None:
    versions = [bytes([n]) * 50_000 for n in range(6)]

    async def look() -> list[bytes | None]:
        return [await stranger.results.get("j1", 1) for _ in range(60)]

    puts = [store.results.put("j1", 1, data) for data in versions]
    seen, *_ = await asyncio.gather(look(), *puts, stranger.results.erase("j1"))
    assert all(data is None or data in versions for data in seen)
    await store.results.put("j1", 1, versions[0])
    assert await store.results.get("j1", 1) == versions[0]


# --- room --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opener", EXACT, indirect=True)
async def test_the_bound_holds_for_all_who_share_the_store(opener: Opener, tmp_path: Path) -> None:
    bound = 4 * MIB
    async with opener(tmp_path / "s", bound) as one, opener(tmp_path / "s", bound) as two:
        outcomes = await asyncio.gather(
            *(put(side, f"u{n}", 0, bytes(MIB // 2)) for n, side in enumerate([one, two] * 8)), return_exceptions=True
        )
        stored = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Listing)]
        assert {type(outcome) for outcome in outcomes} == {Listing, errors.StorageFull}
        while await one.survey.used_bytes() < bound:  # of two that raced for the last room both may have been refused
            stored.append(100 + len(stored))
            await put(one, f"u{stored[-1]}", 0, bytes(MIB // 2))
        assert len(stored) == 8
        assert await one.survey.used_bytes() == await two.survey.used_bytes() == bound
        with pytest.raises(errors.StorageFull):
            await one.results.put("j1", 1, b"{}")
        with pytest.raises(errors.StorageFull):  # also while it is still coming in
            await one.parts.receive(in_pieces(bytes(3 * MIB)), limit=8 * MIB)
        for n in stored:
            assert await read(two, f"u{n}", Listing({0: MIB // 2})) == bytes(MIB // 2)
            assert await put(two, f"u{n}", 0, bytes(MIB // 2)) == Listing({0: MIB // 2})  # a repeat needs no room
        await two.parts.erase(f"u{stored[0]}")
        await one.results.put("j1", 1, b"{}")
        assert await one.results.get("j1", 1) == b"{}"


async def test_nothing_is_lost_by_opening_again(opener: Opener, tmp_path: Path) -> None:
    async with opener(tmp_path / "s", ROOM) as store:
        await put(store, "u1", 0, b"ab")
        before = await put(store, "u1", 1, b"c", LastMark(1, "{}"))
        await store.results.put("j1", 1, b"{}")
        used = await store.survey.used_bytes()
    async with opener(tmp_path / "s", ROOM) as store:
        assert await store.parts.list("u1") == before
        assert await read(store, "u1", before) == b"abc"
        assert await store.results.get("j1", 1) == b"{}"
        assert await store.survey.used_bytes() == used
