"""What the store on disk promises about order: what is synced before what, and who waits for whom."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cosygate import errors
from cosygate.adapters.blobs_disk import DiskStore
from cosygate.model.upload import LastMark, Listing
from tests.support.blob_stores import folder_of, put

MIB = 1024**2


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DiskStore]:
    async with DiskStore(tmp_path / "s", durability="process", min_free_bytes=0, lock_wait_s=0.5) as opened:
        yield opened


# --- durability --------------------------------------------------------------------------------------------------


class SyncLog:
    """A real fsync that notes, each time, what it was given and which parts, marks and results had names already."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lines: list[tuple[str, frozenset[str]]] = []

    def __call__(self, fd: int) -> None:
        os.fsync(fd)
        target = os.readlink(f"/proc/self/fd/{fd}")
        kind = os.path.relpath(target, self.root) if os.path.isdir(target) else "file"
        named = frozenset(p.name for top in ("uploads", "results") for p in self.root.glob(f"{top}/*/*/*"))
        self.lines.append((kind, named))


@pytest.mark.parametrize("nameless", [True, False])
async def test_disk_syncs_files_before_their_names_and_folders_after(tmp_path: Path, nameless: bool) -> None:
    root = tmp_path / "s"
    log = SyncLog(root)
    async with DiskStore(root, durability="disk", min_free_bytes=0, nameless=nameless, fsync=log) as store:
        assert (".", frozenset()) in log.lines  # the tree itself is durable before anything is acknowledged
        log.lines.clear()
        await put(store, "u1", 0, b"a")
        upload = os.path.relpath(folder_of(root, "u1"), root)
        first = frozenset({"000000000"})
        assert log.lines == [
            ("file", frozenset()),
            (upload, first),
            (os.path.dirname(upload), first),
            ("uploads", first),
        ]
        log.lines.clear()
        await put(store, "u1", 1, b"b", LastMark(1, "{}"))
        both = first | {"000000001", "last"}
        assert log.lines == [("file", first), ("file", first), (upload, both)]
        log.lines.clear()
        await put(store, "u1", 1, b"b")  # a repeat may be of a part whose writer died before the folder was synced
        assert log.lines == [(upload, both)]
        log.lines.clear()
        await store.parts.list("u1")  # what a client is told of, it will not send again
        assert log.lines == [(upload, both)]
        await store.parts.erase("u1")
        log.lines.clear()
        await store.results.put("j1", 1, b"{}")
        (job,) = (os.path.relpath(p, root) for p in root.glob("results/*/j1"))
        done = frozenset({"1.json"})
        assert log.lines == [("file", frozenset()), (job, done), (os.path.dirname(job), done), ("results", done)]


async def test_a_folder_that_another_process_made_is_synced_too(tmp_path: Path) -> None:
    root = tmp_path / "s"
    log = SyncLog(root)
    async with (
        DiskStore(root, durability="process", min_free_bytes=0) as one,
        DiskStore(root, durability="disk", min_free_bytes=0, fsync=log) as two,
    ):
        await put(one, "u1", 0, b"a")
        log.lines.clear()
        await put(two, "u1", 1, b"b")
        upload = os.path.relpath(folder_of(root, "u1"), root)
        assert [kind for kind, _ in log.lines] == ["file", upload, os.path.dirname(upload), "uploads"]


async def test_a_listing_tells_only_what_its_sync_covered(tmp_path: Path) -> None:
    """A part that another process links while the folder is being synced may not be durable when we answer."""
    root = tmp_path / "s"

    def intruding(fd: int) -> None:
        target = Path(os.readlink(f"/proc/self/fd/{fd}"))
        if target.name == "u1":
            (target / "000000007").write_bytes(b"h")

    async with DiskStore(root, durability="disk", min_free_bytes=0, fsync=intruding) as store:
        assert await put(store, "u1", 0, b"a") == Listing({0: 1})
        folder_of(root, "u1").joinpath("000000007").unlink()
        assert await store.parts.list("u1") == Listing({0: 1})
        assert await store.parts.list("u1") == Listing({0: 1, 7: 1})


async def test_process_never_syncs(tmp_path: Path) -> None:
    log = SyncLog(tmp_path / "s")
    async with DiskStore(tmp_path / "s", durability="process", min_free_bytes=0, fsync=log) as store:
        await put(store, "u1", 0, bytes(2 * MIB), LastMark(0, "{}"))
        await store.results.put("j1", 1, b"{}")
        await store.parts.erase("u1")
    assert log.lines == []


# --- the lock ----------------------------------------------------------------------------------------------------


async def test_a_part_waits_for_a_mark_that_is_being_set_and_obeys_it(store: DiskStore, tmp_path: Path) -> None:
    await put(store, "u1", 0, b"a")
    folder = folder_of(tmp_path / "s", "u1")
    other = os.open(folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    late = asyncio.create_task(put(store, "u1", 5, b"f"))
    await asyncio.sleep(0.1)
    assert sorted(os.listdir(folder)) == ["000000000"]  # it waits, and nothing of it is seen
    (folder / "last").write_text(json.dumps({"last_seq": 3, "options": "{}"}))
    os.close(other)
    with pytest.raises(errors.LastConflict):
        await late
    assert await store.parts.list("u1") == Listing({0: 1}, LastMark(3, "{}"))


async def test_a_mark_waits_for_parts_that_are_being_stored_and_obeys_them(store: DiskStore, tmp_path: Path) -> None:
    await put(store, "u1", 0, b"a")
    folder = folder_of(tmp_path / "s", "u1")
    other = os.open(folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_SH)
    assert len((await put(store, "u1", 1, b"b")).parts) == 2  # parts do not wait for parts
    late = asyncio.create_task(put(store, "u1", 3, b"d", LastMark(3, "{}")))
    await asyncio.sleep(0.1)
    assert sorted(os.listdir(folder)) == ["000000000", "000000001"]
    (folder / "000000005").write_bytes(b"f")
    os.close(other)
    with pytest.raises(errors.LastConflict):
        await late
    assert await store.parts.list("u1") == Listing({0: 1, 1: 1, 5: 1})


async def test_a_lock_that_is_never_released_is_an_answer_not_a_hang(store: DiskStore, tmp_path: Path) -> None:
    await put(store, "u1", 0, b"a")
    other = os.open(folder_of(tmp_path / "s", "u1"), os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(errors.Unavailable):
        await put(store, "u1", 1, b"b")
    os.close(other)
    assert await put(store, "u1", 1, b"b") == Listing({0: 1, 1: 1})
