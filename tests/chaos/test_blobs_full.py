"""A disk that is really full: a small tmpfs. Nothing acknowledged is lost, and it works again when there is room."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cosygate import errors
from cosygate.adapters.blobs_disk import DiskStore
from cosygate.model.upload import LastMark, Listing
from tests.support.blob_stores import in_pieces, put, read

MIB = 1024**2


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    options = getattr(request, "param", "size=8m")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"mounting a tmpfs is not allowed here: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


async def fill(store: DiskStore, upload: str, size: int) -> dict[int, bytes]:
    """Puts parts until the disk is full; returns those that were acknowledged."""
    stored: dict[int, bytes] = {}
    for seq in range(1000):
        data = random.Random(seq).randbytes(size)
        try:
            await put(store, upload, seq, data)
        except errors.StorageFull:
            return stored
        stored[seq] = data
    raise AssertionError("the disk never filled up")


@pytest.mark.parametrize("size", [100_000, 1_300_000])
async def test_full_and_then_not(small_disk: Path, size: int) -> None:
    async with DiskStore(small_disk / "store", min_free_bytes=0) as store:
        await put(store, "other", 0, bytes(2 * MIB), LastMark(0, "{}"))
        stored = await fill(store, "u1", size)
        assert stored
        used = await store.survey.used_bytes()
        for _ in range(3):
            with pytest.raises(errors.StorageFull):
                await put(store, "u1", len(stored), bytes(size))
            with pytest.raises(errors.StorageFull):
                await store.parts.receive(in_pieces(bytes(8 * MIB)), limit=8 * MIB)
            with pytest.raises(errors.StorageFull):
                await store.results.put("j1", 1, bytes(2 * MIB))
        assert await store.survey.used_bytes() == used  # what failed left nothing
        assert os.listdir(small_disk / "store" / "tmp") == []
        listing = await store.parts.list("u1")
        assert listing == Listing(dict.fromkeys(stored, size))
        assert await read(store, "u1", listing) == b"".join(stored.values())
        if size < MIB:  # larger ones pass over the disk before anybody knows that they are repeats
            assert await put(store, "u1", 0, stored[0]) == listing
        with pytest.raises(errors.StorageFull):
            await store.recordings.open("u1", listing)

        await store.parts.erase("other")
        after = await put(store, "u1", len(stored), bytes(size))
        assert len(after.parts) == len(stored) + 1
        await store.results.put("j1", 1, b"{}")


@pytest.mark.parametrize("small_disk", ["size=8m,nr_inodes=100"], indirect=True)
async def test_out_of_inodes(small_disk: Path) -> None:
    async with DiskStore(small_disk / "store", min_free_bytes=0) as store:
        stored = await fill(store, "u1", 10)
        assert 0 < len(stored) < 200
        assert await read(store, "u1", await store.parts.list("u1")) == b"".join(stored.values())
        with pytest.raises(errors.StorageFull):  # no folder for a new upload, and no place made for it
            await put(store, "u2", 0, b"x")
        await store.parts.erase("u1")
        assert await put(store, "u2", 0, b"x") == Listing({0: 1})


async def test_the_disk_is_never_filled_below_what_must_stay_free(small_disk: Path) -> None:
    keep = 3 * MIB
    async with DiskStore(small_disk / "store", min_free_bytes=keep) as store:
        stored = await fill(store, "u1", 100_000)
        stat = os.statvfs(small_disk)
        free = stat.f_bavail * stat.f_frsize
        assert keep <= free < keep + 200_000
        assert len(await read(store, "u1", await store.parts.list("u1"))) == 100_000 * len(stored)
