"""kill -9 and SIGSTOP of processes in the middle of appending, claims from several processes, a disk that is full."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from cosygate import errors
from cosygate.adapters.journal_disk import DiskJournal
from cosygate.ports.journal import Journal, Past
from tests.support.journal_writer import CRASHED_EVENTS, FRAME, HAMMERS
from tests.support.journals import audio, event, in_redis, sound, story, whole
from tests.support.services import shared_redis

KILLS = 6
STOPS = 12
MIB = 1024**2
SESSION = "a" * 32


def start(root: Path, durability: str, task: str, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.support.journal_writer", str(root), durability, task, *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, bufsize=0)


def line(child: subprocess.Popen[bytes]) -> list[str]:
    assert child.stdout is not None
    return child.stdout.readline().decode().split()


def rest(child: subprocess.Popen[bytes]) -> list[list[str]]:
    out, _ = child.communicate(timeout=60)
    return [line.split() for line in out.decode().splitlines()]


def opened(root: Path, durability: str = "process") -> AbstractAsyncContextManager[Journal]:
    if durability.startswith("redis:"):
        return in_redis(root, 64 * MIB, durability)
    return DiskJournal(root, durability="process", min_free_bytes=0, lock_wait_s=10.0)


IN_REDIS = pytest.param("redis", marks=pytest.mark.needs("redis-server"))


@pytest.fixture
def durability(request: pytest.FixtureRequest) -> str:
    """As journal_writer.py has it."""
    return shared_redis().url if request.param == "redis" else str(request.param)


@pytest.mark.parametrize("durability", ["process", "disk", IN_REDIS], indirect=True)
async def test_kill_at_random_moments_loses_nothing_acknowledged(tmp_path: Path, durability: str) -> None:
    rng, compacted = random.Random(durability[:5]), 0
    for turn in range(KILLS):
        session = f"{turn:032x}"
        child = start(tmp_path, durability, "append", session)
        assert line(child) == ["held", "1"]
        time.sleep(rng.uniform(0.1, 0.9))
        child.kill()
        stored = [int(number) for what, number in rest(child) if what == "stored"]
        assert stored == list(range(len(stored))) and stored
        async with opened(tmp_path, durability) as journal:
            past, data = await story(journal, session, 2)
        before = past.snapshot["before"] if past.snapshot else 0
        compacted += before > 0
        end = before + len(past.events)
        assert past.events == [event(number) for number in range(before, end)]
        assert len(stored) <= end and past.end == end * FRAME  # whole appends: a frame and its event
        assert past.first == max(0, (before - 5) * FRAME)
        assert data == audio(past.first, past.end - past.first)
    assert compacted


@pytest.mark.parametrize("durability", ["process", IN_REDIS], indirect=True)
async def test_a_writer_stopped_in_mid_append_is_overtaken_and_wakes_up_to_nothing(
    tmp_path: Path, durability: str
) -> None:
    rng = random.Random(1)
    child = start(tmp_path, durability, "zombie", SESSION)
    expected: list[dict[str, object]] = []
    try:
        async with opened(tmp_path, durability) as journal:
            for turn in range(STOPS):
                assert line(child) == ["held", str(2 * turn + 1)]
                time.sleep(rng.uniform(0.02, 0.1))
                os.kill(child.pid, signal.SIGSTOP)
                claimed = await journal.claim(SESSION, 2 * turn + 2)
                fresh = list(claimed.past.events)[len(expected) :]
                assert list(claimed.past.events)[: len(expected)] == expected
                assert fresh == [event(number, epoch=2 * turn + 1) for number in range(len(fresh))]
                _, position = await journal.events(SESSION, "")
                first = claimed.writer.append(event(0, epoch=2 * turn + 2))
                os.kill(child.pid, signal.SIGCONT)
                await first
                (what, stored) = await asyncio.to_thread(line, child)
                assert what == "stored" and int(stored) <= len(fresh)
                await claimed.writer.append(event(1, epoch=2 * turn + 2))
                ours = [event(0, epoch=2 * turn + 2), event(1, epoch=2 * turn + 2)]
                assert (await journal.events(SESSION, position))[0] == ours
                expected += fresh + ours
                await claimed.writer.close()
                assert child.stdin is not None
                child.stdin.write(b"go on\n")
            assert line(child)[0] == "held"
            child.kill()
            past, _ = await story(journal, SESSION, 1000)
            assert list(past.events)[: len(expected)] == expected
    finally:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("durability", ["process", IN_REDIS], indirect=True)
async def test_many_claims_from_many_processes_make_one_story(tmp_path: Path, durability: str) -> None:
    children = [start(tmp_path, durability, "hammer", SESSION, str(who)) for who in range(HAMMERS)]
    said = [words for child in children for words in rest(child)]
    assert all(child.returncode == 0 for child in children)
    async with opened(tmp_path, durability) as journal:
        past, _ = await story(journal, SESSION, 10**6)
    told = [(one["epoch"], one["id"]) for one in past.events]
    assert told == sorted(set(told))  # each once, epoch after epoch, in order: nothing of an older one behind a claim
    claims = {int(words[1]): int(words[2]) for words in said if words[0] == "claimed"}
    assert len(claims) > HAMMERS
    for epoch, found in claims.items():
        assert sum(by < epoch for by, _ in told) == found  # what the claim saw, and not one more
    stored = {(int(words[1]), int(words[2])) for words in said if words[0] == "stored"}
    assert stored <= set(told) and len(stored) > 100
    for epoch in {by for by, _ in told}:
        numbers = [number for by, number in told if by == epoch]
        assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize("durability", ["process", "disk"], indirect=True)
async def test_a_compaction_killed_at_any_call_leaves_the_old_or_the_new(tmp_path: Path, durability: str) -> None:
    with start(tmp_path, durability, "crash") as child:
        said = rest(child)
    assert [what for what, _ in said[:-1]] == ["crashed"] * (len(said) - 1) and len(said) > 10
    assert said[-1][0] == "lived"
    kinds = set()
    for what, at in said:
        async with opened(tmp_path / at) as journal:
            past, data = await story(journal, "c" * 32, 2)
            left = sorted(os.listdir(tmp_path / at / "sessions" / ("c" * 32)))
        assert past.snapshot is not None
        before = past.snapshot["before"]
        kinds.add(before)
        behind = CRASHED_EVENTS + (what == "lived" or len(past.events) > CRASHED_EVENTS - before)
        if before == CRASHED_EVENTS:
            assert past.first == (CRASHED_EVENTS - 3) * FRAME
            assert past.events == [event(number) for number in range(CRASHED_EVENTS, behind)]
        else:
            assert before == CRASHED_EVENTS // 2 and what == "crashed"
            assert past.first == before * FRAME
            assert past.events == [event(number) for number in range(before + 1, CRASHED_EVENTS)]
        assert data == audio(past.first, CRASHED_EVENTS * FRAME - past.first)
        assert not [name for name in left if name.endswith(".tmp")]  # the claim has tidied up
        assert len([name for name in left if name.endswith(".base")]) == 1
    assert kinds == {CRASHED_EVENTS // 2, CRASHED_EVENTS}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"mounting a tmpfs is not allowed here: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("size", [1000, 100_000])
async def test_a_full_disk_loses_nothing_acknowledged(small_disk: Path, size: int) -> None:
    other = "b" * 32
    async with opened(small_disk / "journal") as journal, opened(small_disk / "journal") as stranger:
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(256 * 1024))
        keeper = (await journal.claim(other, 1)).writer
        await keeper.append(sound(0, MIB), event(0))
        writer = (await journal.claim(SESSION, 1)).writer
        appends = []
        for number in range(4 * MIB // size):
            appends.append(writer.append(sound(number * size, size), event(number)))
            if number % 16 == 0:
                await asyncio.wait(appends[-1:])
        outcomes = await asyncio.gather(*appends, return_exceptions=True)
        stored = outcomes.index(next(one for one in outcomes if one is not None))
        assert stored and outcomes[:stored] == [None] * stored
        assert all(isinstance(one, errors.StorageFull) for one in outcomes[stored:])
        assert await whole(writer) == audio(0, stored * size)  # it can still be read
        with pytest.raises(errors.StorageFull):
            await writer.append(event(0))
        _, position = await stranger.events(SESSION, "")
        assert (await stranger.events(SESSION, "0.0.0.0"))[0][:500] == [event(n) for n in range(min(stored, 500))]

        ballast.unlink()  # without a free byte there could not even be a log to go on in
        await keeper.compact({"n": 1}, MIB)  # makes room
        claimed = await stranger.claim(SESSION, 2)
        assert claimed.past == Past(None, [event(n) for n in range(stored)], 0, stored * size)
        await claimed.writer.append(sound(stored * size, size), event(stored))
        assert (await journal.events(SESSION, position))[0] == [event(stored)]
        await claimed.writer.append(sound((stored + 1) * size, 100))
        assert await whole(claimed.writer) == audio(0, (stored + 1) * size + 100)
