"""Ends of which somebody does not hear: an answer that is lost, and a process that ends while somebody comes. Real
sessions, records, parts and journals (test_live_parts_ahead.py)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from cosygate import errors
from cosygate.adapters.limits_memory import MemoryCounters
from cosygate.flows.gate import Gate
from cosygate.flows.limiting import Limiting
from cosygate.flows.live.desk import Live, LiveLimits
from cosygate.flows.live.holding import Holding
from cosygate.flows.live.outlet import Outlet
from cosygate.flows.quotas import QuotaWatch
from cosygate.flows.webhooks import Callbacks
from cosygate.kit.clock import SystemClock, SystemRandomness
from cosygate.model.live import LiveFormat
from cosygate.model.live_messages import Resume, Start
from cosygate.model.options import TranscribeOptions
from cosygate.model.principal import Principal
from cosygate.model.usage import Quota
from cosygate.ports.engine import ListenEvent
from cosygate.ports.journal import Claimed, Journal
from tests.unit.test_live_parts_ahead import ID, KINDS, SAID, House, house, say, until

__all__ = ["house"]  # the fixture
ANN = Principal("ann", "acme")
START = Start(16_000, LiveFormat.S16LE, TranscribeOptions(), interim=True)


class Slow:
    """A journal whose claims wait."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.asked, self.goes_on = asyncio.Event(), asyncio.Event()

    async def claim(self, session_id: str, epoch: int) -> Claimed:
        self.asked.set()
        await self.goes_on.wait()
        return await self._journal.claim(session_id, epoch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)


def desk(house: House, holding: Holding, accept_s: float = 3.0) -> Live:
    clock, records, nothing = SystemClock(), house.records, cast(Any, None)
    quotas = QuotaWatch(records.usage, records.quotas, clock, Quota(0, 0, 0))
    limiting = Limiting(MemoryCounters(clock), quotas, clock, rates={}, failing_open=False)
    return Live(
        sessions=records.live, keeping=records.live_keeping, holding=holding, engines=holding._engines,
        gate=Gate(begun=nothing, limiting=limiting, admission=nothing, blocked_s=lambda: 0.0, drained=lambda: False),
        clock=clock, randomness=SystemRandomness(), limits=LiveLimits(accept_s=accept_s),
        callbacks=Callbacks(nothing, nothing, clock, any_scheme=False),
    )  # fmt: skip


def succeeded() -> float:
    return REGISTRY.get_sample_value("cv_task_total", {"state": "succeeded"}) or 0.0


@pytest.mark.parametrize("kind", KINDS)
async def test_an_end_whose_answer_was_lost_is_told_as_done(
    house: House, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database went away after it had committed."""
    real, lost = house.records.live.finish, []

    async def finish(*args: Any) -> bool:
        told = await real(*args)
        if not lost:
            lost.append(told)
            raise errors.DatabaseBusy
        return told

    monkeypatch.setattr(house.records.live, "finish", finish)
    gateway, before = await house.life(kind, "one"), succeeded()
    session, outlet, told = await house.begun(gateway), Outlet(interim=True), []
    session.attach(outlet)
    gateway.run(session)
    await say(session, SAID)
    session.end(len(SAID) // 2)
    async with asyncio.timeout(10):
        while messages := await outlet.next():
            told += messages
    assert lost == [True]
    assert outlet.error is None
    assert told[-1] == {"type": "done", "task_id": ID, "finals": 0, "samples": len(SAID) // 2}

    async def dropped() -> bool:
        return not await gateway._journal.sessions()

    await until(dropped)
    assert succeeded() == before + 1
    await house.check(SAID)


@pytest.mark.parametrize("comes", ["start", "resume"])
async def test_who_comes_while_a_drain_begins_is_sent_elsewhere(house: House, comes: str) -> None:
    elsewhere = desk(house, await house.life("disk-process", "one"))
    ready = (await elsewhere.start(ANN, START, "0" * 32)).ready
    resume = Resume(ready["session"], ready["resume_token"], -1)
    holding = await house.life("disk-process", "one")
    live, journal = desk(house, holding), Slow(holding._journal)
    holding._journal = cast(Journal, journal)
    called = live.start(ANN, START, "0" * 32) if comes == "start" else live.resume(ANN, resume, lambda: False)
    coming = asyncio.create_task(called)
    await asyncio.wait_for(journal.asked.wait(), 5)
    await live.drain(1.0)
    journal.goes_on.set()
    with pytest.raises(errors.Draining):
        await asyncio.wait_for(coming, 5)
    assert not holding._held and not holding._tasks
    assert [row.id for row in await house.records.live_keeping.open_sessions()] == [ready["session"]]
    again = await elsewhere.resume(ANN, resume, lambda: False)
    assert again.session is not None and not again.session.gone.is_set()


async def test_who_waits_for_an_engine_when_a_drain_begins_is_sent_elsewhere(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    holding = await house.life("disk-process", "one")
    live = desk(house, holding, accept_s=0.5)

    async def listen(*_: Any, **__: Any) -> AsyncIterator[ListenEvent]:
        await asyncio.Event().wait()
        yield cast(Any, None)

    monkeypatch.setattr(house.ears, "listen", listen)
    coming = asyncio.create_task(live.start(ANN, START, "0" * 32))

    async def taken() -> bool:
        return bool(holding._held)

    await until(taken)
    await live.drain(1.0)
    with pytest.raises(errors.Draining):
        await asyncio.wait_for(coming, 5)
    assert await house.records.live_keeping.open_sessions() == []
