"""The journal on disk, where its files are torn, damaged, littered or locked; what it costs; foreign errors."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cosygate import errors
from cosygate.adapters.journal_disk import DiskJournal
from cosygate.adapters.journal_disk.claims import claim
from cosygate.adapters.journal_disk.faults import ERRORS, translated
from cosygate.adapters.journal_disk.frames import EVENT, OVERHEAD, framed
from cosygate.adapters.journal_disk.writer import DiskWriter
from tests.support.clock import MovedClock
from tests.support.journals import audio, event, sound, story, whole

SESSION = "a" * 32


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[DiskJournal]:
    async with DiskJournal(tmp_path, durability="process", min_free_bytes=0, lock_wait_s=0.1) as opened:
        yield opened


def files(root: Path, session: str = SESSION) -> list[Path]:
    return sorted((root / "sessions" / session).iterdir())


def copied(root: Path, number: int) -> str:
    session = f"{number:032x}"
    shutil.copytree(root / "sessions" / SESSION, root / "sessions" / session)
    return session


# --- torn and damaged --------------------------------------------------------------------------------------------


async def test_a_log_torn_at_any_byte_ends_behind_its_last_whole_append(tmp_path: Path, journal: DiskJournal) -> None:
    writer = (await journal.claim(SESSION, 1)).writer
    log = files(tmp_path)[0]
    ends = [log.stat().st_size]
    for number in range(4):
        await writer.append(sound(number * 30, 30), event(number))
        ends.append(log.stat().st_size)
    await writer.close()
    _, position = await journal.events(SESSION, "")
    for length in range(ends[0], ends[-1] + 1):
        session = copied(tmp_path, length)
        os.truncate(tmp_path / "sessions" / session / log.name, length)
        stored = sum(length >= end for end in ends[1:])
        assert (await journal.events(session, f"0.1.1.{ends[0]}"))[0] == [event(n) for n in range(stored)]
        claimed = await journal.claim(session, 2)
        assert claimed.past.events == [event(number) for number in range(stored)]
        assert claimed.past.end == stored * 30
        await claimed.writer.append(sound(stored * 30, 30), event(stored))
        assert (await journal.events(session, position))[0] == [event(stored)]  # even from beyond what is left
        await claimed.writer.close()
        assert (await story(journal, session, 3))[1] == audio(0, stored * 30 + 30)


async def test_damage_at_any_byte_ends_the_story_and_nothing_worse(tmp_path: Path, journal: DiskJournal) -> None:
    writer = (await journal.claim(SESSION, 1)).writer
    await writer.append(sound(0, 40), event(0))
    await writer.compact({"before": 1}, 20)
    for number in range(1, 4):
        await writer.append(sound(number * 40, 40), event(number))
    await writer.close()
    base, log = files(tmp_path)[:2]
    for file in (base, log):
        for place in range(0, file.stat().st_size, 2):
            session = copied(tmp_path, place + (10_000 if file is base else 0))
            with (tmp_path / "sessions" / session / file.name).open("r+b") as damaged:
                damaged.seek(place)
                byte = damaged.read(1)[0]
                damaged.seek(place)
                damaged.write(bytes([byte ^ 0x55]))
            claimed = await journal.claim(session, 2)
            past = claimed.past
            assert past.events == [event(number) for number in range(1, len(past.events) + 1)]
            assert past.snapshot in ({"before": 1}, None)
            if file is log:
                assert len(past.events) < 3 and past.snapshot == {"before": 1}
                assert await whole(claimed.writer, past.first) == audio(0, past.end)[past.first :]
            await claimed.writer.close()


async def test_the_epoch_file_may_be_lost(tmp_path: Path, journal: DiskJournal) -> None:
    """It is not synced: after a power loss the names of the logs tell."""
    writer = (await journal.claim(SESSION, 5)).writer
    await writer.append(event(0))
    await writer.close()
    (tmp_path / "sessions" / SESSION / "epoch").unlink()
    with pytest.raises(errors.TakenOver):
        await journal.claim(SESSION, 5)
    assert (await story(journal, SESSION, 6))[0].events == [event(0)]


async def test_a_claimer_that_died_in_the_middle_stops_nobody(tmp_path: Path, journal: DiskJournal) -> None:
    writer = (await journal.claim(SESSION, 5)).writer
    await writer.append(event(0))
    folder = tmp_path / "sessions" / SESSION
    with (folder / "epoch").open("r+b") as epoch:
        epoch.write(b"\xff" * 8)  # between the two halves of its store
    assert not writer.held()
    (folder / f"{6:016x}.000001.log").write_bytes(b"")  # before its first record
    (folder / f"{5:016x}.000002.base.tmp").write_bytes(b"half a compaction")
    assert await journal.events(SESSION, "0") == ([], "0")
    with pytest.raises(errors.TakenOver):
        await journal.claim(SESSION, 6)
    assert (await story(journal, SESSION, 7))[0].events == [event(0)]
    assert [file.name for file in files(tmp_path)] == [f"{5:016x}.000001.log", f"{7:016x}.000001.log", "epoch"]


async def test_silent_reconnections_leave_no_files(tmp_path: Path, journal: DiskJournal) -> None:
    for epoch in range(1, 30):
        await (await journal.claim(SESSION, epoch)).writer.close()
    assert len(files(tmp_path)) == 2
    writer = (await journal.claim(SESSION, 30)).writer
    await writer.compact({"n": 1}, 0)
    for epoch in range(31, 60):
        past, _ = await story(journal, SESSION, epoch)
        assert past.snapshot == {"n": 1}
    assert len(files(tmp_path)) == 4  # the base, the log that it is named after, the newest log


async def test_drops_that_were_cut_off_are_finished(tmp_path: Path, journal: DiskJournal) -> None:
    (tmp_path / "trash" / "left").mkdir()
    (tmp_path / "trash" / "left" / "epoch").write_bytes(b"")
    async with DiskJournal(tmp_path, durability="process"):
        assert os.listdir(tmp_path / "trash") == []


# --- whoever was overtaken -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("written_first", [True, False])
async def test_a_claim_between_the_writing_and_the_look_is_noticed(
    tmp_path: Path, journal: DiskJournal, monkeypatch: pytest.MonkeyPatch, written_first: bool
) -> None:
    """A whole claim in the worst moment: inside the system call."""
    writer = (await journal.claim(SESSION, 1)).writer
    await writer.append(event(0))
    real, found = os.pwrite, []

    def overtaken(fd: int, data: bytes, place: int) -> int:
        monkeypatch.setattr(os, "pwrite", real)
        if written_first:
            real(fd, data, place)
        found.append(claim(journal._places, journal._disk._room, SESSION, 2))
        return real(fd, data, place)

    monkeypatch.setattr(os, "pwrite", overtaken)
    with pytest.raises(errors.TakenOver):
        await writer.append(event(1))
    ((session, past),) = found
    assert past.events == [event(0), event(1)][: 1 + written_first]
    journal._disk._abandon(session)
    assert (await story(journal, SESSION, 3))[0].events == past.events


async def test_a_compaction_that_is_overtaken_leaves_everything(tmp_path: Path, journal: DiskJournal) -> None:
    writer = (await journal.claim(SESSION, 1)).writer
    await writer.append(sound(0, 1000), event(0))
    assert isinstance(writer, DiskWriter)
    bases, session = journal._disk.bases, writer.session
    before = await journal._disk.in_order(writer, lambda: bases.turn(session))
    await writer.append(event(1))
    claimed = await journal.claim(SESSION, 2)
    assert claimed.past.events == [event(0), event(1)]
    with pytest.raises(errors.TakenOver):
        bases.write(session, before, b"{}", 500)
    assert await whole(claimed.writer) == audio(0, 1000)
    past, _ = await story(journal, SESSION, 3)
    assert (past.snapshot, past.events) == (None, [event(0), event(1)])


async def test_what_is_written_while_somebody_claims_is_shown_to_nobody(tmp_path: Path, journal: DiskJournal) -> None:
    writer = (await journal.claim(SESSION, 1)).writer
    await writer.append(event(0))
    _, position = await journal.events(SESSION, "")
    with (tmp_path / "sessions" / SESSION / "epoch").open("r+b") as epoch:
        epoch.write((2).to_bytes(8, "little"))  # stored; its claimer has not looked at the log yet
    late = framed(EVENT, 2**24 + 1, b'{"late":1}')
    with files(tmp_path)[0].open("ab") as log:
        log.write(late)
    assert await journal.events(SESSION, position) == ([], position)
    assert await journal.events(SESSION, "0") == ([], "0")
    claimed = await journal.claim(SESSION, 3)  # now it is part of the story, or it never was: here it is
    assert claimed.past.events == [event(0), {"late": 1}]
    assert (await journal.events(SESSION, position))[0] == [{"late": 1}]
    with files(tmp_path)[0].open("ab") as log:
        log.write(late)
    assert (await journal.events(SESSION, position))[0] == [{"late": 1}]
    assert (await story(journal, SESSION, 4))[0].events == [event(0), {"late": 1}]


# --- locks, descriptors ------------------------------------------------------------------------------------------


async def test_a_stopped_claimer_holds_up_claims_for_a_while_and_appends_not_at_all(
    tmp_path: Path, journal: DiskJournal
) -> None:
    writer = (await journal.claim(SESSION, 1)).writer
    fd = os.open(tmp_path / "sessions" / SESSION, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(errors.Unavailable):
            await journal.claim(SESSION, 2)
        await writer.append(event(0))
        with pytest.raises(errors.Unavailable):
            await journal.drop(SESSION)
        with pytest.raises(errors.Unavailable):
            await writer.compact({"n": 1}, 0)
    finally:
        os.close(fd)
    await writer.append(event(1))  # the compaction came to nothing; the writer goes on
    _, position = await journal.events(SESSION, "")
    await writer.append(event(2))
    assert (await journal.events(SESSION, position))[0] == [event(2)]
    assert (await story(journal, SESSION, 2))[0].events == [event(0), event(1), event(2)]


async def test_two_descriptors_a_session(tmp_path: Path, journal: DiskJournal) -> None:
    def held() -> int:
        return sum(
            os.path.realpath(f"/proc/self/fd/{fd}").startswith(str(tmp_path)) for fd in os.listdir("/proc/self/fd")
        )

    writers = [(await journal.claim(f"{number:032x}", 1)).writer for number in range(20)]
    for writer in writers:
        await writer.append(sound(0, 100))
        assert await whole(writer) == audio(0, 100)
        await writer.compact({}, 50)
        await writer.append(sound(100, 100))
        assert await whole(writer, 50) == audio(50, 150)
    assert held() == 40
    for number in range(20):
        await journal.events(f"{number:032x}", "")
    assert held() == 80
    for writer in writers:
        await writer.close()
    assert held() == 40
    for number in range(20):
        await journal.drop(f"{number:032x}")
    assert held() == 0


async def test_watching_costs_nothing_when_there_is_nothing(tmp_path: Path, journal: DiskJournal) -> None:
    writer = (await journal.claim(SESSION, 1)).writer
    await writer.append(event(0), sound(0, 100))
    _, position = await journal.events(SESSION, "")
    _, position = await journal.events(SESSION, position)
    assert journal._watching.nothing_new(SESSION, position)
    await writer.append(sound(100, 100))
    assert not journal._watching.nothing_new(SESSION, position)
    _, position = await journal.events(SESSION, position)
    assert journal._watching.nothing_new(SESSION, position)
    await writer.compact({}, 100)
    assert not journal._watching.nothing_new(SESSION, position)


# --- room, foreign errors ----------------------------------------------------------------------------------------


async def test_all_journals_together_are_bounded(tmp_path: Path) -> None:
    clock = MovedClock()
    async with DiskJournal(tmp_path, durability="process", min_free_bytes=0, max_bytes=100_000, clock=clock) as journal:
        full = (await journal.claim(SESSION, 1)).writer
        await full.append(sound(0, 90_000))
        with pytest.raises(errors.StorageFull):
            await full.append(sound(90_000, 20_000))
        claimed = await journal.claim(SESSION, 2)  # who is to end a session needs no room
        await claimed.writer.compact({}, 80_000)
        clock.mono += 6  # counted anew with the next append
        for at in range(200):
            await claimed.writer.append(sound(90_000 + at, 1))
        await claimed.writer.append(sound(90_200, 20_000))
        assert len(await whole(claimed.writer, 80_000)) == 30_200


async def test_what_must_stay_free_stays_free(tmp_path: Path) -> None:
    stat = os.statvfs(tmp_path)
    free = stat.f_bavail * stat.f_frsize
    async with DiskJournal(tmp_path, durability="process", min_free_bytes=2 * free) as journal:
        writer = (await journal.claim(SESSION, 1)).writer
        with pytest.raises(errors.StorageFull):
            await writer.append(event(0))


@pytest.mark.parametrize("number", [*ERRORS, errno.ENODEV, 0])
def test_foreign_errors_are_ours(number: int) -> None:
    ours = translated(OSError(number, "/secret/path"))
    assert type(ours) is ERRORS.get(number, errors.Unavailable)
    assert "secret" not in str(ours)


def test_a_record_costs_17_bytes() -> None:
    assert OVERHEAD == 17
