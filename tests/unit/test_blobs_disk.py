"""What is particular to the store on disk: what crashes leave, memory, threads, descriptors, foreign errors."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cosygate import errors
from cosygate.adapters.blobs_disk import DiskStore
from cosygate.adapters.blobs_disk.disk import ERRORS, Disk
from cosygate.adapters.blobs_disk.listings import Listings
from cosygate.adapters.blobs_disk.names import names
from cosygate.adapters.blobs_disk.reading import copy
from cosygate.adapters.blobs_disk.room import BLOCK
from cosygate.model.upload import LastMark, Listing
from tests.support.blob_stores import MovedClock, folder_of, in_pieces, put, read

MIB = 1024**2


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DiskStore]:
    async with DiskStore(tmp_path / "s", durability="process", min_free_bytes=0, lock_wait_s=0.5) as opened:
        yield opened


# --- what crashes leave ------------------------------------------------------------------------------------------


async def test_sweep_finishes_what_a_crash_cut_off(tmp_path: Path) -> None:
    clock = MovedClock()
    async with DiskStore(tmp_path / "s", durability="process", min_free_bytes=0, clock=clock) as store:
        await put(store, "u1", 0, bytes(BLOCK))
        await put(store, "u1", 1, b"b", LastMark(1, "{}"))
        await put(store, "u2", 0, b"stays")
        folder_of(tmp_path / "s", "u1").rename(tmp_path / "s" / "trash" / "x")  # erase, killed after the move
        (tmp_path / "s" / "tmp" / "y").write_bytes(b"half")  # a named temporary file, its writer killed
        assert await store.parts.list("u1") == Listing({})
        assert await store.survey.used_bytes() == 4 * BLOCK
        assert await store.survey.sweep(60.0) == 0
        clock.shift += 61
        assert await store.survey.sweep(60.0) == 2
        assert os.listdir(tmp_path / "s" / "tmp") == os.listdir(tmp_path / "s" / "trash") == []
        assert await store.survey.used_bytes() == BLOCK
        ages = await store.survey.uploads()
        assert list(ages) == ["u2"] and 61 <= ages["u2"] < 91
        clock.shift = -3600.0  # a clock that was set back makes nothing older than new
        assert (await store.survey.uploads())["u2"] == 0


async def test_files_being_written_have_no_name_where_the_file_system_can(store: DiskStore, tmp_path: Path) -> None:
    received = await store.parts.receive(in_pieces(bytes(3 * MIB)), limit=8 * MIB)
    assert os.listdir(tmp_path / "s" / "tmp") == []
    await received.close()


# --- memory, threads, descriptors --------------------------------------------------------------------------------


async def test_the_memory_of_listings_is_bounded(tmp_path: Path) -> None:
    listings = Listings(remembered=10)
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        for seq in range(4):
            (folder / f"{seq:09d}").write_bytes(bytes(seq))
        place = os.open(folder, os.O_RDONLY)
        for _ in range(2):
            assert listings.read(str(number), place) == Listing({seq: seq for seq in range(4)})
        os.close(place)
        assert listings.held <= 10


async def test_a_listing_believes_the_disk_when_something_vanished(store: DiskStore, tmp_path: Path) -> None:
    await put(store, "u1", 0, b"a")
    await put(store, "u1", 1, b"bb")
    folder = folder_of(tmp_path / "s", "u1")
    (folder / "000000000").unlink()
    assert await store.parts.list("u1") == Listing({1: 2})
    with pytest.raises(errors.AudioGone):
        await read(store, "u1", Listing({0: 1, 1: 2}))
    (folder / "000000001").write_bytes(b"b")
    with pytest.raises(errors.AudioGone):
        await read(store, "u1", Listing({1: 2}))
    with pytest.raises(errors.AudioGone):
        await store.recordings.open("u1", Listing({1: 2}))


async def test_a_cancelled_put_is_over_before_its_caller_goes_on(tmp_path: Path) -> None:
    """So that closing the body never closes a descriptor under a thread."""
    syncing, go_on = threading.Event(), threading.Event()

    def slow(fd: int) -> None:
        if not os.path.isdir(f"/proc/self/fd/{fd}"):
            syncing.set()
            go_on.wait(10)

    async with DiskStore(tmp_path / "s", min_free_bytes=0, threads=1, fsync=slow) as store:
        running = asyncio.create_task(put(store, "u1", 0, b"a"))
        await asyncio.to_thread(syncing.wait, 10)
        queued = asyncio.create_task(put(store, "u2", 0, b"b"))
        await asyncio.sleep(0.05)
        running.cancel()
        queued.cancel()
        await asyncio.sleep(0.05)
        running.cancel()  # impatience changes nothing
        await asyncio.sleep(0.05)
        assert not running.done() and not queued.done()
        go_on.set()
        for upload, task in (("u1", running), ("u2", queued)):
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await store.parts.list(upload) == Listing({0: 1})  # whole, though nobody was told
        assert await store.survey.used_bytes() == 2 * BLOCK


async def test_no_descriptor_is_left_open(store: DiskStore) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def everything() -> None:
        for seq in range(3):
            await put(store, "u1", seq, bytes(1 + seq * MIB), LastMark(2, "{}") if seq == 2 else None)
        for bad in (put(store, "u1", 0, b"other"), put(store, "u1", 9, b"x"), put(store, "no", 0, b"x", create=False)):
            with pytest.raises(errors.CosyGateError):
                await bad
        listing = await store.parts.list("u1")
        await read(store, "u1", listing)
        os.close(await store.recordings.open("u1", listing))
        await store.results.put("j1", 1, b"{}")
        await store.results.get("j1", 1)
        await store.results.erase("j1")
        await store.survey.sweep(0)
        await store.parts.erase("u1")

    await everything()
    before = count()
    for _ in range(5):
        await everything()
    assert count() == before


async def test_no_descriptor_is_left_open_by_the_cancelled(store: DiskStore) -> None:
    await put(store, "u1", 0, bytes(100_000))
    one = await store.parts.list("u1")
    two = await put(store, "u1", 1, bytes(100_000))

    async def cancelled_after(steps: int, listing: Listing) -> bool:
        opening = asyncio.create_task(store.recordings.open("u1", listing))
        for _ in range(steps):
            await asyncio.sleep(0.0001)
        opening.cancel()
        (outcome,) = await asyncio.gather(opening, return_exceptions=True)
        if isinstance(outcome, int):
            os.close(outcome)
        return isinstance(outcome, asyncio.CancelledError)

    before = len(os.listdir("/proc/self/fd"))
    cut = [await cancelled_after(steps, listing) for steps in range(30) for listing in (one, two)]
    assert any(cut)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_many_slow_bodies_hold_little_memory_together(store: DiskStore) -> None:
    """Each alone may hold a MiB: 160 bodies of 800 kB would be 128 MB."""
    count, parked, done = 160, 0, asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        nonlocal parked
        for _ in range(8):
            await asyncio.sleep(0)
            yield bytes(100_000)
        parked += 1
        await done.wait()

    tracemalloc.start()
    try:
        arriving = [asyncio.create_task(store.parts.receive(slow(), limit=8 * MIB)) for _ in range(count)]
        while parked < count:
            await asyncio.sleep(0.01)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 80 * MIB
    done.set()
    for received in await asyncio.gather(*arriving):
        assert received.size == 800_000
        await received.close()
    received = await store.parts.receive(in_pieces(bytes(800_000)), limit=8 * MIB)
    assert received._temporary is None  # one alone stays in memory, as before
    await received.close()


async def test_a_body_of_single_bytes(store: DiskStore) -> None:
    data = os.urandom(20_000)
    received = await store.parts.receive(in_pieces(data, 1), limit=MIB)
    listing = await store.parts.put("u1", 0, received, create=True)
    await received.close()
    assert await read(store, "u1", listing) == data


async def test_ids_are_ours_and_wrong_ones_a_bug(store: DiskStore) -> None:
    for bad in ("", "..", "../u1", "a/b", "a\0b", "a\n", "x" * 129, ".hidden"):
        with pytest.raises(ValueError, match="not an id"):
            await store.parts.list(bad)


MEMORY_SCRIPT = """
import asyncio, os, sys
from pathlib import Path
from cosygate.adapters.blobs_disk import DiskStore
from tests.support.blob_stores import put

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024

async def pieces(total):
    for _ in range(total >> 16):
        yield bytes(1 << 16)

async def main(root):
    async with DiskStore(Path(root), durability="process", min_free_bytes=0) as store:
        await put(store, "u1", 0, bytes(100_000))
        before = peak()
        for seq in range(1, 9):
            received = await store.parts.receive(pieces(32 << 20), limit=32 << 20)
            listing = await store.parts.put("u1", seq, received)
            await received.close()
        fd = await store.recordings.open("u1", listing)
        assert os.fstat(fd).st_size == listing.total_bytes > 256 << 20
        async for piece in store.parts.read("u1", listing, 0, listing.total_bytes):
            pass
        print(peak() - before)

asyncio.run(main(sys.argv[1]))
"""


def test_memory_stays_flat(tmp_path: Path) -> None:
    """256 MiB in, opened as one file, and out again."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT, str(tmp_path / "s")], capture_output=True, check=True, text=True
    )
    assert int(done.stdout) < 24 * MIB


# --- foreign errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [*ERRORS, errno.ESTALE])
async def test_every_foreign_error_has_its_answer(tmp_path: Path, number: int) -> None:
    disk = Disk(tmp_path, durable=False, threads=1, nameless=True, fsync=os.fsync)

    def fails() -> None:
        raise OSError(number, os.strerror(number), "/secret/path")

    with pytest.raises(ERRORS.get(number, errors.Unavailable)) as caught:
        await disk.run(fails)
    assert "secret" not in caught.value.detail
    assert (type(caught.value) is errors.StorageFull) == (number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
    await disk.close()


async def test_a_root_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    threads = threading.active_count()
    with pytest.raises(errors.Unavailable) as caught:
        async with DiskStore(tmp_path / "file"):
            raise AssertionError("it opened")
    assert str(tmp_path) not in caught.value.detail
    # asyncio's own thread for the shutdown may linger; those of earlier tests may, too, until they are collected.
    assert not [t for t in threading.enumerate() if t.name.startswith("blobs")]
    assert threading.active_count() <= threads + 2


def test_copying_between_file_systems(tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is not another file system here")
    data = os.urandom(3 * MIB + 5)
    target = os.open(tmp_path / "target", os.O_CREAT | os.O_RDWR)
    source = os.open(memory, os.O_TMPFILE | os.O_RDWR)
    os.write(source, data)
    os.lseek(source, 0, os.SEEK_SET)
    copy(source, target, len(data))
    assert (tmp_path / "target").read_bytes() == data
    with pytest.raises(errors.AudioGone):
        copy(source, target, 1)
    os.close(source)
    os.close(target)


def test_names_are_those_that_the_system_lists(tmp_path: Path) -> None:
    wanted = {f"{n:09d}" for n in range(5000)} | {"last", "ü" * 80, ".hidden"}
    for name in wanted:
        (tmp_path / name).touch()
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(2):  # from the start each time
            found = names(folder)
            assert set(found) == wanted == set(os.listdir(folder))
            assert len(found) == len(wanted)
    finally:
        os.close(folder)
    with pytest.raises(OSError):
        names(folder)
