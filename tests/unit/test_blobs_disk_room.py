"""How the store on disk counts its bytes over processes, and looks at the free space."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from cosygate import errors
from cosygate.adapters.blobs_disk import DiskStore
from cosygate.adapters.blobs_disk.room import BLOCK, TALLIES, Room, blocks
from cosygate.model.upload import LastMark
from tests.support.blob_stores import MovedClock, in_pieces, put, read

MIB = 1024**2


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DiskStore]:
    async with DiskStore(tmp_path / "s", durability="process", min_free_bytes=0, lock_wait_s=0.5) as opened:
        yield opened


async def test_room_is_counted_in_blocks(store: DiskStore) -> None:
    for seq in range(10):
        await put(store, "u1", seq, b"x")
    assert await store.survey.used_bytes() == 10 * BLOCK
    await put(store, "u1", 10, bytes(BLOCK + 1), LastMark(10, "{}"))
    assert await store.survey.used_bytes() == 13 * BLOCK  # with the mark
    assert [blocks(n) for n in (0, 1, BLOCK, BLOCK + 1)] == [BLOCK, BLOCK, BLOCK, 2 * BLOCK]


async def test_what_is_left_is_what_can_still_be_stored(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    free = disk.f_bavail * disk.f_frsize
    async with DiskStore(tmp_path / "a", durability="process", max_bytes=9 * BLOCK, min_free_bytes=0) as store:
        await put(store, "u1", 0, bytes(7 * BLOCK))
        assert await store.survey.free_bytes() == 2 * BLOCK  # the store's own bound
        with pytest.raises(errors.StorageFull):
            await put(store, "u1", 1, bytes(3 * BLOCK))
        await put(store, "u1", 1, bytes(2 * BLOCK))
        assert await store.survey.free_bytes() == 0
    async with DiskStore(tmp_path / "b", durability="process", min_free_bytes=2 * free) as store:
        assert await store.survey.free_bytes() == 0  # the disk's: less than it must keep, and never below nothing


async def test_only_the_first_process_counts_anew(tmp_path: Path) -> None:
    async with DiskStore(tmp_path / "s", durability="process", min_free_bytes=0) as first:
        await put(first, "u1", 0, bytes(BLOCK))
        with (tmp_path / "s" / "usage").open("r+b") as tallies:
            tallies.write((7 * BLOCK).to_bytes(8, "little"))
        async with DiskStore(tmp_path / "s", durability="process", min_free_bytes=0) as second:
            assert await second.survey.used_bytes() == 7 * BLOCK
    async with DiskStore(tmp_path / "s", durability="process", min_free_bytes=0) as again:
        assert await again.survey.used_bytes() == BLOCK


async def test_a_count_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    async with DiskStore(tmp_path / "s", durability="process", min_free_bytes=0) as store:
        await put(store, "u1", 0, bytes(BLOCK))
    counting = os.open(tmp_path / "s" / "running", os.O_RDWR)
    fcntl.flock(counting, fcntl.LOCK_EX)
    os.truncate(tmp_path / "s" / "usage", 0)
    late = DiskStore(tmp_path / "s", durability="process", min_free_bytes=0)
    starting = asyncio.create_task(late.start())
    await asyncio.sleep(0.1)
    assert not starting.done()
    os.close(counting)  # as if the one who counted were killed
    await starting
    assert await late.survey.used_bytes() == BLOCK
    await late.close()


async def test_processes_come_and_go_and_the_sum_stays(tmp_path: Path) -> None:
    """Each erases what another stored: tallies may be negative, and outlive who wrote them."""
    async with DiskStore(tmp_path / "s", durability="process", min_free_bytes=0) as first:
        for turn in range(5):
            async with DiskStore(tmp_path / "s", durability="process", min_free_bytes=0) as other:
                await put(first if turn % 2 else other, f"u{turn}", 0, bytes(BLOCK))
                if turn >= 2:
                    await (other if turn % 2 else first).parts.erase(f"u{turn - 2}")
        assert await first.survey.used_bytes() == 2 * BLOCK


async def test_more_processes_than_tallies(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(TALLIES):
            await stack.enter_async_context(DiskStore(tmp_path / "s", durability="process", threads=1))
        one_more = DiskStore(tmp_path / "s", durability="process", threads=1)
        with pytest.raises(errors.Unavailable):
            await one_more.start()
        await one_more.close()


def test_free_space_is_looked_up_once_a_second_and_reckoned_between(tmp_path: Path) -> None:
    clock = MovedClock()
    stat = os.statvfs(tmp_path)
    room = Room(str(tmp_path), 1 << 62, 0, clock)
    for name in ("uploads", "results", "trash", "tallies"):
        (tmp_path / name).mkdir()
    room.start()
    room.take(stat.f_bavail * stat.f_frsize // 2)
    with pytest.raises(errors.StorageFull):
        room.take(stat.f_bavail * stat.f_frsize * 3 // 4)
    clock.shift += 1.1  # nothing was written: the file system still has it all
    room.take(stat.f_bavail * stat.f_frsize * 3 // 4)
    room.stop()


async def test_too_little_free_space_refuses_everything_that_writes(tmp_path: Path) -> None:
    async with DiskStore(tmp_path / "s", durability="process", min_free_bytes=0) as roomy:
        await put(roomy, "u1", 0, b"a")
        listing = await put(roomy, "u1", 1, b"b")
        async with DiskStore(tmp_path / "s", durability="process", min_free_bytes=1 << 60) as tight:
            for attempt in (
                put(tight, "u1", 2, b"c"),
                tight.parts.receive(in_pieces(bytes(2 * MIB)), limit=8 * MIB),
                tight.results.put("j1", 1, b"{}"),
                tight.recordings.open("u1", listing),
            ):
                with pytest.raises(errors.StorageFull):
                    await attempt
            assert await read(tight, "u1", listing) == b"ab"
