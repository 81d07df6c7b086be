"""The breaker board's promises (ports/breaker.py), over every adapter; and of the file, over processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cosygate.adapters.breaker_file import FileBreakers
from cosygate.adapters.breaker_memory import MemoryBreakers
from cosygate.adapters.breaker_redis import RedisBreakers
from cosygate.flows.breakers import Breakers
from cosygate.kit.breaker import Breaker, Phase
from cosygate.kit.clock import SystemClock, SystemRandomness
from cosygate.ports.breaker import BoardBusy, BreakerBoard
from tests.support.clock import MovedClock, SeededRandomness
from tests.support.moved_redis import MovedRedis, connect, own_prefix

CHANGES = """
import asyncio, sys
from pathlib import Path
from cosygate.adapters.breaker_file import FileBreakers
from cosygate.kit.clock import SystemClock
from cosygate.ports.breaker import BoardBusy

async def main(folder, count):
    board, done = FileBreakers(Path(folder), SystemClock()), 0
    while done < count:
        try:
            await board.change("0", lambda b: b.succeeded(1000.0, open_s=60))
            done += 1
        except BoardBusy:
            await asyncio.sleep(0.001)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""
HOLDS = """
import fcntl, os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


REDIS = pytest.param("redis", marks=pytest.mark.needs("redis-server"))


@pytest.fixture(params=["memory", "file", REDIS])
async def board(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BreakerBoard]:
    if request.param == "memory":
        yield MemoryBreakers()
        return
    if request.param == "redis":
        client = connect()
        shared = RedisBreakers(client, SystemClock(), SystemRandomness(), prefix=own_prefix())
        shared.start()
        await begun(shared)
        yield shared
        await shared.close()
        await client.aclose()
        return
    made = FileBreakers(tmp_path, SystemClock())
    yield made
    made.close()


async def begun(board: BreakerBoard) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                await board.change("another", lambda b: b)
                return
            except BoardBusy:
                await asyncio.sleep(0.01)


@contextmanager
def holder(folder: Path, engine: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """A process that stops in the middle of a change."""
    path = str(folder / f"engine-{engine}")
    with subprocess.Popen([sys.executable, "-c", HOLDS, path], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            process.send_signal(signal.SIGSTOP)
            yield process
        finally:
            process.kill()


async def test_closed_until_somebody_changes_it(board: BreakerBoard) -> None:
    assert board.look("0") == board.look("1") == Breaker()
    after = await board.change("0", lambda b: b.failed(1000.0, open_s=60))
    assert after.streak == 1
    assert board.look("0") == after
    assert board.look("1") == Breaker()


async def test_any_name_is_an_engine_s_and_no_other_s(board: BreakerBoard) -> None:
    names = ["0", "a/b", "a_b", "a%2Fb", "10.0.0.1:50051", "[fd00::1]:50051", "..", ""]
    names += ["unix:/run/x.sock", "é", "E", "e", "n" * 300, "n" * 300 + "m"]
    for count, name in enumerate(names):
        for _ in range(count):
            await board.change(name, lambda b: b.gone(1000.0, heard_at=2000.0, open_s=60) if b.streak < 4 else b)
    assert [board.look(name).streak for name in names[:5]] == [0, 1, 2, 3, 4]
    assert all(board.look(name).streak == 4 for name in names[5:])
    assert board.look("another") == Breaker()


async def test_no_change_is_lost_among_tasks(board: BreakerBoard) -> None:
    await asyncio.gather(*(board.change("0", lambda b: b.succeeded(1000.0, open_s=60)) for _ in range(100)))
    assert board.look("0").quarters == ((4000, 100, 0),)


async def test_all_that_a_breaker_knows_comes_back(board: BreakerBoard) -> None:
    def far(breaker: Breaker) -> Breaker:
        for n in range(200):
            breaker = breaker.succeeded(1000 + n / 4, open_s=60)
        for _ in range(5):
            breaker = breaker.gone(1060.0, heard_at=2000.0, open_s=60)
        return breaker.probing(1120.0, "me")

    after = await board.change("1", far)
    assert (after.probe, after.gone_at) == ("me", 1060.0)
    assert board.look("1") == after


# --- the file, and other processes ---


async def test_no_change_is_lost_among_processes(tmp_path: Path) -> None:
    board = FileBreakers(tmp_path, SystemClock())
    others = [subprocess.Popen([sys.executable, "-c", CHANGES, str(tmp_path), "300"]) for _ in range(2)]
    mine = 0
    while mine < 300:
        try:
            await board.change("0", lambda b: b.succeeded(1000.0, open_s=60))
            mine += 1
        except BoardBusy:
            await asyncio.sleep(0.001)
    assert [await asyncio.to_thread(other.wait, 30) for other in others] == [0, 0]
    assert board.look("0").quarters == ((4000, 900, 0),)
    board.close()


async def test_who_stops_in_the_middle_stalls_nobody(tmp_path: Path) -> None:
    board = FileBreakers(tmp_path, SystemClock())
    before = await board.change("0", lambda b: b.failed(1000.0, open_s=60))
    with holder(tmp_path):
        async with asyncio.timeout(5):
            with pytest.raises(BoardBusy):
                await board.change("0", lambda b: b.failed(1000.0, open_s=60))
        assert board.look("0") == before
    after = await board.change("0", lambda b: b.failed(1000.0, open_s=60))
    assert after.streak == 2
    board.close()


@pytest.mark.parametrize("damage", [lambda half: half[:30], lambda half: half[:-3] + b"xxx", lambda _: b"\xff" * 16])
async def test_what_was_not_written_to_its_end_never_was(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """A writer is killed: the half that it was writing is anything, and the other one counts."""
    board = FileBreakers(tmp_path, SystemClock())
    kept = await board.change("0", lambda b: b.failed(1000.0, open_s=60))
    path = tmp_path / "engine-0"
    first = path.read_bytes()
    await board.change("0", lambda b: b.failed(1001.0, open_s=60))
    [at] = [at for at in (0, 8192) if path.read_bytes()[at : at + 16] != first[at : at + 16]]
    half = path.read_bytes()[at : at + 8192].rstrip(b"\0")
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes(8192))
        file.seek(at)
        file.write(damage(half))
    later = FileBreakers(tmp_path, SystemClock())
    assert later.look("0") == kept
    assert (await later.change("0", lambda b: b.failed(1002.0, open_s=60))).streak == 2
    assert later.look("0").streak == 2
    board.close()
    later.close()


async def test_engines_that_come_and_go_take_bounded_room(tmp_path: Path) -> None:
    open_before = len(os.listdir("/proc/self/fd"))
    board, memory = FileBreakers(tmp_path, SystemClock()), MemoryBreakers()
    for n in range(1100):
        for one in (board, memory):
            await one.change(f"10.0.{n // 250}.{n % 250}:1", lambda b: b.failed(1000.0, open_s=60))
    assert len(os.listdir("/proc/self/fd")) - open_before <= 512
    assert board.look("10.0.0.0:1").streak == 1
    assert (memory.look("10.0.0.0:1"), memory.look("10.0.4.99:1").streak) == (Breaker(), 1)
    board.close()
    assert len(os.listdir("/proc/self/fd")) <= open_before  # fewer, if what is not ours was collected meanwhile


# --- what cannot be told at once (flows/breakers.py) ---


def gateway(folder: Path, clock: MovedClock | SystemClock, seed: int = 0) -> tuple[Breakers, FileBreakers]:
    board = FileBreakers(folder, clock)
    random = SystemRandomness() if isinstance(clock, SystemClock) else SeededRandomness(seed)
    return Breakers(board, clock, random), board


async def test_what_could_not_be_told_counts_at_once_and_is_told_later(tmp_path: Path) -> None:
    mine, my_board = gateway(tmp_path, SystemClock())
    other, other_board = gateway(tmp_path, SystemClock())
    with holder(tmp_path):
        for _ in range(5):
            mine.failed("0")
        assert mine.blocked_s(["0"]) > 50
        await asyncio.sleep(0.05)
        assert other.blocked_s(["0"]) == 0
    async with asyncio.timeout(10):
        while other.blocked_s(["0"]) == 0:
            await asyncio.sleep(0.01)
    assert mine.of("0") == other.of("0")
    my_board.close()
    other_board.close()


async def test_what_waits_to_be_told_is_bounded_and_what_is_old_is_left_out(tmp_path: Path) -> None:
    clock = MovedClock()
    mine, board = gateway(tmp_path, clock)
    with holder(tmp_path):
        for _ in range(1000):
            mine.succeeded("0")
        for _ in range(20):
            await clock.advance(0.001)
        assert mine.of("0").quarters == ((4000, 200, 0),)
        clock.mono += 31
    for _ in range(5):
        await clock.advance(1)
    assert board.look("0") == Breaker()
    mine.succeeded("0")
    await clock.advance(0)
    assert sum(good for _, good, _ in board.look("0").quarters) == 1
    board.close()


class Gateways:
    """Two of them, with one board."""

    def __init__(
        self, clock: MovedClock, boards: list[BreakerBoard], looks: list[Callable[[], Awaitable[None]]]
    ) -> None:
        self.clock = clock
        self.one, self.two = (Breakers(board, clock, SeededRandomness(n)) for n, board in enumerate(boards))
        self._looks = looks

    async def settle(self) -> None:
        """All that was told is known to both."""
        await self.clock.advance(0)
        for look in self._looks:
            await look()


@pytest.fixture(params=["file", REDIS])
async def gateways(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateways]:
    clock = MovedClock()
    if request.param == "file":
        files = [FileBreakers(tmp_path, clock) for _ in range(2)]
        yield Gateways(clock, [*files], [])
        for file in files:
            file.close()
        return
    client, prefix = connect(), own_prefix()
    boards = [
        RedisBreakers(MovedRedis(client, clock), clock, SeededRandomness(n), prefix=prefix)  # type: ignore[arg-type]
        for n in range(2)
    ]
    for board in boards:
        board.start()
        await begun(board)

    async def looked() -> None:
        for _ in range(2):  # told by the first, looked at by then
            await asyncio.sleep(0.03)
            await clock.advance(0.25)
        await asyncio.sleep(0.03)

    yield Gateways(clock, [*boards], [looked])
    for board in boards:
        await board.close()
    await client.aclose()


async def test_two_gateways_open_one_breaker_and_make_one_probe(gateways: Gateways) -> None:
    clock, one, two = gateways.clock, gateways.one, gateways.two
    for breakers in (one, two, one, two, one):
        breakers.failed("0")
        await gateways.settle()
    for breakers in (one, two):
        assert 54 <= breakers.blocked_s(["0"]) <= 66
        assert await breakers.probe("0") == ""
    clock.mono += 67
    assert (one.blocked_s(["0"]), two.pause_s(["0"])) == (0, 0)
    probes = [await one.probe("0"), await two.probe("0")]
    assert [bool(p) for p in probes] == [True, False]
    assert (two.blocked_s(["0"]), two.pause_s(["0"]) > 0, two.of("0").phase(clock.mono)) == (0, True, Phase.HALF_OPEN)
    one.succeeded("0", probes[0])
    await gateways.settle()
    assert two.of("0") == Breaker()


async def test_nobody_probes_while_a_gateway_is_stopped_in_the_middle_of_a_change(tmp_path: Path) -> None:
    clock = MovedClock()
    mine, board = gateway(tmp_path, clock)
    for _ in range(5):
        mine.failed("0")
    await clock.advance(0)
    clock.mono += 67
    with holder(tmp_path):
        probe = asyncio.create_task(mine.probe("0"))
        while not probe.done():
            await clock.advance(0.001)
        assert (probe.result(), mine.pause_s(["0"])) == ("", 0)
    assert await mine.probe("0")  # it was killed
    board.close()


async def test_others_hear_of_a_probe_that_takes_long(gateways: Gateways) -> None:
    clock, one, two = gateways.clock, gateways.one, gateways.two
    for _ in range(5):
        one.failed("0")
    await gateways.settle()
    clock.mono += 67
    who = await one.probe("0")
    assert who
    for _ in range(30):
        await clock.advance(10)
        one.heard("0", who)
        await gateways.settle()
        assert await two.probe("0") == ""
    one.succeeded("0", who)
    await gateways.settle()
    assert two.of("0") == Breaker()


async def test_a_board_whose_files_are_gone_keeps_what_it_knew(tmp_path: Path) -> None:
    board = FileBreakers(tmp_path, SystemClock())
    known = await board.change("0", lambda b: b.failed(1000.0, open_s=60))
    board.close()
    assert board.look("0") == known
    with pytest.raises(BoardBusy):
        await board.change("0", lambda b: b)
    assert os.listdir(tmp_path) == ["engine-0"]
