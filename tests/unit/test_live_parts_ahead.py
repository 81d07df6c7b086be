"""Parts are stored before SQL knows of them. When the journal is lost in that moment, they alone know how far a session
had come, and whoever takes it goes on from there: other bytes, or another end, would be refused for ever.

Real sessions, records, parts and journals; the second life of a gateway has another journal, which is an empty one."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from cosygate import errors
from cosygate.adapters.blobs_disk import DiskStore
from cosygate.adapters.records_sql import SqlRecords
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.live import sound
from cosygate.flows.live.finishing import Finishing
from cosygate.flows.live.holding import Holding
from cosygate.flows.live.keeping import Keeper
from cosygate.flows.live.session import Session
from cosygate.kit.clock import SystemClock, SystemRandomness
from cosygate.model.live import LiveFormat, LiveSession, LiveState
from cosygate.model.options import TranscribeOptions
from cosygate.model.wav import wav_header
from cosygate.ports.blobs import PartStore
from tests.support.breakers import breakers, numbered
from tests.support.journals import JOURNALS
from tests.unit.test_live_listening import Ears, NoDecoder

ID, PART = "a" * 32, 3200  # bytes; half a megabyte would take ten seconds to be heard
SAID = random.Random(1).randbytes(2 * PART + 1000)
KINDS = [pytest.param("disk-process", id="disk"), pytest.param("redis", marks=pytest.mark.needs("redis-server"))]


class House:
    def __init__(self, place: Path, records: SqlRecords, store: DiskStore, stack: AsyncExitStack) -> None:
        self.place, self.records, self.store, self._stack = place, records, store, stack
        self._lives: list[Holding] = []
        self.ears = Ears(SystemClock())  # type: ignore[arg-type]  # the engine of the newest life

    async def life(self, kind: str, name: str, parts: PartStore | None = None) -> Holding:
        """A gateway with the journal `name`."""
        clock, randomness, records = SystemClock(), SystemRandomness(), self.records
        journal = await self._stack.enter_async_context(JOURNALS[kind](self.place / name, 1 << 20))
        keeper = Keeper(records.live, records.live_keeping, journal, clock, holder=name, window_s=60.0)
        finishing = Finishing(records.live, records.live_keeping, keeper, journal, self.store.results, clock)
        self.ears = Ears(clock)  # type: ignore[arg-type]
        holding = Holding(
            sessions=records.live, keeping=records.live_keeping, journal=journal, parts=parts or self.store.parts,
            keeper=keeper, finishing=finishing, clock=clock, randomness=randomness, decoder=NoDecoder(),
            engines=EngineRoom(numbered(self.ears), clock, breakers(clock)),
            engine_idle_s=5.0, longest_s=600.0, longest_bytes=1 << 30, unheard_tries=3, unheard_s=5.0,
        )  # fmt: skip
        self._lives.append(holding)
        return holding

    async def begun(self, holding: Holding, session_id: str = ID) -> Session:
        row = LiveSession(
            id=session_id, owner="/alice", token_hash="", format=LiveFormat.S16LE, rate=16_000,
            options=TranscribeOptions().to_json(), trace_id="0" * 32, created_at=1.0, state=LiveState.OPEN, epoch=1,
            holder=holding.holder,
        )  # fmt: skip
        await self.records.live.open(row, max_of_owner=9, max_of_all=9)
        return await holding.take(row)

    async def row(self, session_id: str = ID) -> LiveSession:
        row = await self.records.live.find(session_id)
        assert row is not None
        return row

    async def check(self, said: bytes) -> None:
        """It becomes a task, with just these samples."""
        async with asyncio.timeout(10):
            while (await self.row()).state is not LiveState.FINISHED:
                await asyncio.sleep(0.01)
        listing = await self.store.parts.list(ID)
        assert listing.complete
        whole = b"".join([p async for p in self.store.parts.read(ID, listing, 0, listing.total_bytes)])
        assert whole == wav_header(16_000, len(said)) + said
        job = await self.records.jobs.get(None, ID)
        assert job is not None
        assert job.size == len(whole)

    async def end(self) -> None:
        for holding in self._lives:
            await holding.drain(1.0)


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(sound, "PART_BYTES", PART)
    records = await SqlRecords.open(f"sqlite:///{tmp_path / 'r.db'}", durability="process")
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(
            DiskStore(tmp_path / "blobs", durability="process", max_bytes=10**9, min_free_bytes=0)
        )
        made = House(tmp_path, records, store, stack)
        yield made
        await made.end()
    await records.close()


async def until(what: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not await what():
            await asyncio.sleep(0.02)


async def say(session: Session, said: bytes) -> None:
    at = session.timeline.received
    session.frame(at, said)
    async with asyncio.timeout(5):
        while session.durable < at + len(said) // 2:
            await asyncio.sleep(0.001)


def failing(port: Any, method: str, when: Callable[..., bool], patch: pytest.MonkeyPatch) -> None:
    """Calls for which `when` are done, but whoever asked does not hear of it; as when its process is killed."""
    real = getattr(port, method)

    async def call(*args: Any, **kwargs: Any) -> Any:
        if when(*args):
            raise errors.DatabaseBusy
        return await real(*args, **kwargs)

    patch.setattr(port, method, call)


async def stopped_while_finishing(house: House, holding: Holding, session: Session, cut: str) -> None:
    """Its end is in parts, SQL knows nothing of it."""
    parts = house.store.parts
    with pytest.MonkeyPatch.context() as patch:
        match cut:
            case "marked":
                failing(house.records.live, "keep", lambda _id, _epoch, _new, mark: mark.safe > 0, patch)
            case "no header":
                failing(parts, "put", lambda _id, seq, *_: seq == 0, patch)
            case "no mark":
                real = parts.put

                async def killed(upload_id: str, seq: int, received: Any, mark: Any, **more: Any) -> Any:
                    done = await real(upload_id, seq, received, None, **more)
                    if mark is not None:
                        raise errors.DatabaseBusy
                    return done

                patch.setattr(parts, "put", killed)
        session.abandon()
        with pytest.raises(errors.DatabaseBusy):
            await holding._finishing.finish(session)
    await session.writer.close()
    assert (await house.row()).mark.kept == 2 * PART
    listing = await parts.list(ID)
    assert sum(size for seq, size in listing.parts.items() if seq) == session.timeline.received * 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", ["marked", "no header", "no mark"])
@pytest.mark.parametrize("adopted", [True, False], ids=["adopted", "resumed"])
async def test_a_session_whose_end_is_in_parts_alone_ends_there(
    house: House, kind: str, cut: str, adopted: bool
) -> None:
    first = await house.life(kind, "one")
    session = await house.begun(first)
    await say(session, SAID)
    await stopped_while_finishing(house, first, session, cut)
    second = await house.life(kind, "two")
    if adopted:
        await second._adopt(ID, 1)
    else:
        again = await second.claim(await house.row())
        assert again is not None
        assert again.timeline.received == len(SAID) // 2
        again.frame(len(SAID) // 2, b"more")  # it comes too late
    await house.check(SAID)


async def test_an_end_behind_a_whole_part_is_known_by_its_mark(house: House) -> None:
    first = await house.life("disk-process", "one")
    session = await house.begun(first)
    await say(session, SAID[: 2 * PART])
    await stopped_while_finishing(house, first, session, "marked")
    again = await (await house.life("disk-process", "two")).claim(await house.row())
    assert again is not None
    again.frame(PART, b"more")  # it comes too late
    await house.check(SAID[: 2 * PART])


async def test_the_newest_part_of_a_journal_may_be_lost_too(house: House) -> None:
    first = await house.life("disk-process", "one")
    session = await house.begun(first)
    at = 2 * PART + 400
    await say(session, SAID[:at])
    await asyncio.to_thread(shutil.copytree, house.place / "one", house.place / "two")
    await say(session, SAID[at:])
    await stopped_while_finishing(house, first, session, "marked")
    await (await house.life("disk-process", "two"))._adopt(ID, 1)
    await house.check(SAID)


@pytest.mark.parametrize("kind", KINDS)
async def test_whole_parts_that_sql_does_not_know_are_where_it_goes_on(house: House, kind: str) -> None:
    """Also when its client has other plans with them."""
    first = await house.life(kind, "one")
    session = await house.begun(first)
    await say(session, SAID)
    await first._keeper.parts(first._held)
    await session.writer.close()
    assert (await house.row()).mark.kept == 0
    again = await (await house.life(kind, "two")).claim(await house.row())
    assert again is not None
    assert again.timeline.received == 2 * PART // 2
    again.gap(0, len(SAID) // 2, 60.0)
    again.end(len(SAID) // 2)
    await house.check(SAID[: 2 * PART] + bytes(len(SAID) - 2 * PART))


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_only_claimed_again_asks_no_store(house: House, kind: str) -> None:
    """A store that is away holds nobody up whose journal is there."""
    first = await house.life(kind, "one")
    session = await house.begun(first)
    await say(session, SAID)
    await first._keeper.parts(first._held)
    await first._keeper.keep(session)
    await session.writer.close()
    with pytest.MonkeyPatch.context() as patch:
        failing(house.store.parts, "list", lambda *_: True, patch)
        again = await (await house.life(kind, "one")).claim(await house.row())
    assert again is not None
    assert (again.timeline.received, again.timeline.ended) == (len(SAID) // 2, None)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_lost_journal_lacks_is_never_taken_for_silence(house: House, kind: str) -> None:
    """Not by the next life, which sees that it was lost, and not by the one after."""
    first = await house.life(kind, "one")
    session = await house.begun(first)
    await say(session, SAID)
    await first._keeper.parts(first._held)
    await first._keeper.keep(session)
    await session.writer.close()
    said = SAID[: 2 * PART]

    async def heard() -> bool:
        return house.ears.heard == said

    for more in (b"more", b"and more"):
        again = await (await house.life(kind, "two")).claim(await house.row())
        assert again is not None
        said += more
        await say(again, more)
        await until(heard)
        await again.writer.close()
    last = await (await house.life(kind, "two")).claim(await house.row())
    assert last is not None
    await until(heard)
    last.end(len(said) // 2)
    await house.check(said)
