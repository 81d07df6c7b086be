"""What the journal on disk syncs before which acknowledgement, how often, and what a failed sync means."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import statistics
import threading
import time
from pathlib import Path

import pytest

from cosygate import errors
from cosygate.adapters.journal_disk import DiskJournal
from tests.support.journals import audio, event, sound, story

SESSION = "a" * 32


class SyncLog:
    """A real fdatasync that notes what it was given, when, and how many bytes of it are safe after it."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, str]] = []
        self.safe: dict[str, int] = {}
        self.free = threading.Event()  # syncs wait for it
        self.free.set()
        self.broken = False

    def __call__(self, fd: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        self.calls.append((time.monotonic(), os.path.basename(path)))
        self.free.wait(30)
        if self.broken:
            raise OSError(errno.EIO, "broken")
        size = os.fstat(fd).st_size
        os.fdatasync(fd)
        self.safe[path] = max(size, self.safe.get(path, 0))

    def names(self) -> list[str]:
        names = [name for _, name in self.calls]
        self.calls.clear()
        return names


def opened(root: Path, log: SyncLog, durability: str = "disk") -> DiskJournal:
    kind = "disk" if durability == "disk" else "process"
    return DiskJournal(root, durability=kind, min_free_bytes=0, fsync=log)  # type: ignore[arg-type]


async def test_process_syncs_nothing(tmp_path: Path) -> None:
    log = SyncLog()
    async with opened(tmp_path, log, "process") as journal:
        writer = (await journal.claim(SESSION, 1)).writer
        await writer.append(sound(0, 10))
        await writer.compact({}, 0)
        await journal.drop(SESSION)
    assert log.calls == []


async def test_disk_syncs_files_and_names_before_it_answers(tmp_path: Path) -> None:
    log = SyncLog()
    first, second, third = f"{1:016x}.000001.log", f"{1:016x}.000002.log", f"{2:016x}.000001.log"
    base = f"{1:016x}.000002.base"
    async with opened(tmp_path, log) as journal:
        assert tmp_path.name in log.names()
        writer = (await journal.claim(SESSION, 1)).writer
        assert log.names() == [first, SESSION, "sessions"]
        await writer.append(sound(0, 10), event(0))
        assert log.names() == [first]
        await writer.append({"type": "partial"}, passing=True)
        assert log.names() == []
        await writer.compact({}, 0)
        assert log.names() == [f"{base}.tmp", second, SESSION]
        await writer.append(event(1))
        assert log.names() == [second, SESSION]
        await writer.append(event(2))
        assert log.names() == [second]
        claimed = await journal.claim(SESSION, 2)
        assert log.names() == [base, second, third, SESSION, "sessions"]  # what it counts on, too
        await claimed.writer.close()
        log.calls.clear()
        await journal.drop(SESSION)
        assert log.names() == ["sessions"]


async def test_nothing_is_acknowledged_before_it_is_synced(tmp_path: Path) -> None:
    log = SyncLog()
    async with opened(tmp_path, log) as journal:
        writer = (await journal.claim(SESSION, 1)).writer
        path = str(tmp_path / "sessions" / SESSION / f"{1:016x}.000001.log")
        for number in range(5):
            await asyncio.gather(*(writer.append(event(10 * number + n)) for n in range(10)))
            assert log.safe[path] == os.path.getsize(path)
        log.free.clear()
        held = writer.append(sound(0, 100), event(50))
        assert await writer.read(0, 100) == audio(0, 100)  # but written at once: the engine goes on
        passing = writer.append({"type": "partial"}, passing=True)
        await passing
        done, _ = await asyncio.wait([held], timeout=0.5)
        assert not done
        log.free.set()
        await held
        assert log.safe[path] == os.path.getsize(path)


async def test_closing_waits_for_the_sync(tmp_path: Path) -> None:
    log = SyncLog()
    async with opened(tmp_path, log) as journal:
        writer = (await journal.claim(SESSION, 1)).writer
        last = writer.append(event(0))
        await writer.close()
        assert last.done() and last.exception() is None


async def test_sessions_share_groups_that_are_at_most_200_ms_apart(tmp_path: Path) -> None:
    log = SyncLog()
    async with opened(tmp_path, log) as journal:
        writers = [(await journal.claim(f"{number:032x}", 1)).writer for number in range(20)]
        log.calls.clear()
        appends, waits = 0, []
        begun = time.monotonic()
        while time.monotonic() < begun + 1.5:
            for writer in writers:
                one, at = writer.append(event(0)), time.monotonic()
                one.add_done_callback(lambda _, at=at: waits.append(time.monotonic() - at))
                appends += 1
            await asyncio.sleep(0.01)
        await asyncio.gather(*(writer.close() for writer in writers))
    assert len(log.calls) < appends / 4
    groups = [log.calls[0][0]]
    for at, _ in log.calls:
        if at - groups[-1] > 0.05:
            groups.append(at)
    apart = [later - earlier for earlier, later in itertools.pairwise(groups)]
    assert statistics.median(apart) <= 0.2  # a busy machine may be late now and then
    assert statistics.median(waits) <= 0.2 and len(waits) == appends


async def test_a_failed_sync_breaks_the_writer_and_stores_nothing(tmp_path: Path) -> None:
    log = SyncLog()
    async with opened(tmp_path, log) as journal:
        writer = (await journal.claim(SESSION, 1)).writer
        other = (await journal.claim("b" * 32, 1)).writer
        await writer.append(sound(0, 100), event(0))
        log.broken = True
        lost = [writer.append(sound(100, 100), event(1)), writer.append(event(2))]
        for one in lost:
            with pytest.raises(errors.Unavailable):
                await one
        log.broken = False
        for one in (writer.append(event(3)), writer.append(event(3), passing=True)):
            with pytest.raises(errors.Unavailable):
                await one
        with pytest.raises(errors.Unavailable):
            await writer.compact({}, 0)
        await other.append(event(0))
        _, position = await journal.events(SESSION, "")
        claimed = await journal.claim(SESSION, 2)
        assert claimed.past.events == [event(0)] and claimed.past.end == 100
        await claimed.writer.append(sound(100, 100), event(1))
        assert (await journal.events(SESSION, position))[0] == [event(1)]
        assert (await story(journal, SESSION, 3))[1] == audio(0, 200)


async def test_what_the_last_holder_did_not_live_to_sync_is_synced_by_the_next(tmp_path: Path) -> None:
    log = SyncLog()
    async with opened(tmp_path, SyncLog(), "process") as journal:
        writer = (await journal.claim(SESSION, 1)).writer
        await writer.append(sound(0, 1000))
    async with opened(tmp_path, log) as journal:
        assert (await journal.claim(SESSION, 2)).past.end == 1000
        path = tmp_path / "sessions" / SESSION / f"{1:016x}.000001.log"
        assert log.safe[str(path)] == path.stat().st_size
