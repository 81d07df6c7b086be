"""What a blob store or a database that is away costs live sessions: their own parts wait, nobody's finals do, and the
journal takes no more than the window. Real sessions, records, parts and journals (test_live_parts_ahead.py)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from cosygate import errors
from cosygate.flows.live import session as session_module
from cosygate.flows.live import sound
from cosygate.flows.live.keeping import Keeper
from cosygate.model.transcript import Segment
from cosygate.ports.blobs import PartStore
from tests.unit.test_live_listening import CountingClock
from tests.unit.test_live_parts_ahead import ID, KINDS, PART, SAID, House, failing, house, say, until

__all__ = ["house"]  # the fixture
OTHER = "b" * 32


class Stuck:
    """A store whose `put` does what it is told: hangs, refuses, or does its work; and whose `read` may refuse."""

    def __init__(self, parts: PartStore) -> None:
        self._parts = parts
        self.asked: list[str] = []
        self.seqs: dict[str, list[int]] = {}
        self.readable = True
        self.works = asyncio.Event()
        self.hangs = True

    async def put(self, upload_id: str, seq: int, *args: Any, **more: Any) -> Any:
        self.asked.append(upload_id)
        self.seqs.setdefault(upload_id, []).append(seq)
        if not self.hangs:
            raise errors.StorageUnavailable
        await self.works.wait()
        return await self._parts.put(upload_id, seq, *args, **more)

    def read(self, *args: Any) -> Any:
        if not self.readable:
            raise errors.StorageUnavailable
        return self._parts.read(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parts, name)


async def test_a_store_that_hangs_holds_up_nobodys_finals(house: House) -> None:
    store = Stuck(house.store.parts)
    gateway = await house.life("disk-process", "one", cast(PartStore, store))
    sessions = [await house.begun(gateway, session_id) for session_id in (ID, OTHER)]
    await say(sessions[0], SAID)
    gateway.begin()

    async def hangs() -> bool:
        return bool(store.asked)

    async def stored() -> bool:
        return all([(await house.row(s.id)).mark.finals == 1 for s in sessions])

    async def kept() -> bool:
        return (await house.row()).mark.kept == 2 * PART

    await until(hangs)
    for session in sessions:
        await session.final(0, 100, Segment(0, 0.0, 0.1, "words"))
    await until(stored)
    assert not await kept()
    store.works.set()
    await until(kept)


async def test_a_store_that_is_away_is_asked_once_a_second(house: House) -> None:
    """Not once for each session: each would wait for its whole patience."""
    store = Stuck(house.store.parts)
    store.hangs = False
    gateway = await house.life("disk-process", "one", cast(PartStore, store))
    held = {name: await house.begun(gateway, name) for name in ("a" * 32, "b" * 32, "c" * 32)}
    for session in held.values():
        await say(session, SAID)
    clock = CountingClock()
    keeper = Keeper(house.records.live, house.records.live_keeping, cast(Any, None), clock, holder="one", window_s=60.0)

    async def sleeps() -> bool:
        return clock.asleep > 0

    with capture_logs() as logs:
        trying = asyncio.create_task(keeper.parts(held))
        for count in (1, 2, 3):
            await until(sleeps)
            await clock.advance(0.9)
            assert clock.asleep
            assert store.asked == list(held)[:count]
            await clock.advance(0.2)
        await trying
    assert [line["code"] for line in logs] == ["storage_unavailable"] * 3


@pytest.mark.parametrize("storing", [1, 3])
async def test_so_many_sessions_parts_are_stored_side_by_side(house: House, storing: int) -> None:
    """And each one's in their order."""
    store = Stuck(house.store.parts)
    gateway = await house.life("disk-process", "one", cast(PartStore, store))
    held = {name * 32: await house.begun(gateway, name * 32) for name in "abcde"}
    for session in held.values():
        await say(session, SAID)
    records, nothing = house.records, cast(Any, None)
    keeper = Keeper(
        records.live, records.live_keeping, nothing, CountingClock(), holder="one", window_s=60.0, storing=storing
    )

    async def all_hang() -> bool:
        return len(store.asked) >= storing

    trying = asyncio.create_task(keeper.parts(held))
    await until(all_hang)
    await asyncio.sleep(0.05)
    assert sorted(store.asked) == list(held)[:storing]  # in whatever order: they read their sound side by side
    store.works.set()
    await asyncio.wait_for(trying, 5)
    assert store.seqs == {name: [1, 2] for name in held}
    assert [session.sound.kept for session in held.values()] == [2 * PART] * len(held)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_engine_may_die_while_the_store_is_away(house: House, kind: str) -> None:
    """The next one hears from the journal what is in parts too."""
    store = Stuck(house.store.parts)
    store.works.set()
    gateway = await house.life(kind, "one", cast(PartStore, store))
    session = await house.begun(gateway)
    gateway.run(session)
    said, calls = SAID, 1

    async def heard() -> bool:
        return len(house.ears.restarts) == calls and house.ears.heard == said

    await say(session, said)
    await until(heard)
    await gateway._keeper.parts(gateway._held)
    await gateway._keeper.keep(session)
    store.readable = False
    house.ears.dies_at = 0
    said, calls = SAID + SAID, 2
    await say(session, SAID)
    await until(heard)
    assert (house.ears.restarts, session.sound.kept) == ([0, 0], 2 * PART)
    session.end(len(said) // 2)
    await house.check(said)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_compacted_while_it_is_read_is_in_parts(house: House, kind: str) -> None:
    gateway = await house.life(kind, "one")
    session = await house.begun(gateway)
    await say(session, SAID)
    await gateway._keeper.parts(gateway._held)
    writer = session.writer

    class Overtaken:
        async def read(self, start: int, limit: int) -> bytes:
            session.sound.first = 2 * PART
            snapshot: Mapping[str, Any] = {**session.timeline.snapshot(), "unsaved": []}
            await writer.compact(snapshot, 2 * PART)
            return await writer.read(start, limit)

    session.sound._writer = cast(Any, Overtaken())
    session.sound.tail.take(0, len(SAID))  # it is heard once
    assert await session.read(0, len(SAID)) == SAID[: 2 * PART]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("away", ["store", "sql"])
async def test_what_waits_in_the_journal_is_bounded_and_nothing_is_lost(
    house: House, kind: str, away: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound, "PART_BYTES", session_module.PART_BYTES)
    store = Stuck(house.store.parts)
    store.hangs = False
    gateway = await house.life(kind, "one", cast(PartStore, store))
    session = await house.begun(gateway)
    gateway.run(session)
    keeper, said = gateway._keeper, bytearray()

    async def all_there_is_room_for() -> int:
        """Says it, as a connection would, and returns how much."""
        before = len(said)
        while True:
            try:
                async with asyncio.timeout(1):
                    await session.room()
            except TimeoutError:
                return len(said) - before
            said.extend(random.Random(len(said)).randbytes(64_000))
            await say(session, bytes(said[-64_000:]))

    async def round_of_news() -> None:
        await keeper.parts(gateway._held)
        await keeper.round(gateway._held)

    window = 60 * 32_000 + session_module.PART_BYTES
    with pytest.MonkeyPatch.context() as patch:
        if away == "sql":
            failing(house.records.live, "keep", lambda *_: True, patch)
            store.hangs = True
            store.works.set()
        await round_of_news()
        assert window < await all_there_is_room_for() <= window + 64_000
        await round_of_news()
        assert not session.has_room()
    store.hangs = True
    store.works.set()
    waiting = asyncio.create_task(session.room())
    await round_of_news()
    await asyncio.wait_for(waiting, 0.5)
    assert await all_there_is_room_for() > 60 * 32_000 - session_module.PART_BYTES
    await round_of_news()
    session.end(len(said) // 2)
    await house.check(bytes(said))
