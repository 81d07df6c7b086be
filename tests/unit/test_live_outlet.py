"""What waits for one connection: acks merged, partials replaced, order kept, and never more than a bound."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cosygate import errors
from cosygate.flows.live.outlet import Outlet


def partial(text: str) -> dict[str, Any]:
    return {"type": "partial", "text": text}


def final(number: int) -> dict[str, Any]:
    return {"type": "final", "id": number}


@pytest.fixture
def outlet() -> Outlet:
    return Outlet(interim=True)


async def test_acks_are_merged_and_go_first(outlet: Outlet) -> None:
    outlet.ack(1600, 0)
    outlet.put(final(0))
    outlet.ack(3200, 1600)
    outlet.ack(4800, 3200)
    assert await outlet.next() == [{"type": "ack", "samples": 4800, "safe": 3200}, final(0)]
    outlet.ack(6400, 3200)
    assert await outlet.next() == [{"type": "ack", "samples": 6400, "safe": 3200}]


async def test_a_partial_replaces_the_one_before_and_a_final_replaces_both(outlet: Outlet) -> None:
    outlet.partial(partial("a"))
    outlet.partial(partial("ab"))
    assert await outlet.next() == [partial("ab")]
    outlet.partial(partial("ab"))
    outlet.put(final(0))
    assert await outlet.next() == [final(0)]


async def test_a_partial_before_something_else_stays_where_it_is(outlet: Outlet) -> None:
    ended = {"type": "speech_ended", "at": 1.0}
    outlet.partial(partial("a"))
    outlet.put(ended)
    outlet.partial(partial("b"))
    outlet.partial(partial("bc"))
    assert await outlet.next() == [partial("a"), ended, partial("bc")]


async def test_order_is_kept(outlet: Outlet) -> None:
    said = [{"type": kind, "n": n} for n in range(100) for kind in ("speech_started", "final", "speech_ended", "pong")]
    for message in said:
        outlet.put(message)
    assert await outlet.next() == said


async def test_without_interim_there_are_no_partials() -> None:
    outlet = Outlet(interim=False)
    outlet.partial(partial("a"))
    outlet.put(final(0))
    assert await outlet.next() == [final(0)]


async def test_the_513th_message_closes_it(outlet: Outlet) -> None:
    for n in range(512):
        outlet.put(final(n))
    assert not outlet.closed
    outlet.put(final(512))
    assert outlet.closed and isinstance(outlet.error, errors.ReaderTooSlow) and outlet.error.close_code == 4008
    outlet.put(final(513))
    outlet.partial(partial("a"))
    assert await outlet.next() == [final(n) for n in range(512)]  # in order, and not one more
    assert await outlet.next() == []


async def test_partials_and_acks_take_no_room(outlet: Outlet) -> None:
    for n in range(2000):
        outlet.partial(partial(str(n)))
        outlet.ack(n, 0)
    assert not outlet.closed
    assert await outlet.next() == [{"type": "ack", "samples": 1999, "safe": 0}, partial("1999")]


async def test_partials_between_other_messages_are_bounded_too(outlet: Outlet) -> None:
    for n in range(5000):
        outlet.put({"type": "speech_started", "at": n})
        outlet.partial(partial(str(n)))
    assert outlet.closed and isinstance(outlet.error, errors.ReaderTooSlow)
    assert len(await outlet.next()) <= 513


async def test_who_takes_in_time_may_have_any_number(outlet: Outlet) -> None:
    for n in range(2000):
        outlet.put(final(n))
        if n % 512 == 511:
            assert len(await outlet.next()) == 512
    assert not outlet.closed


async def test_the_first_reason_counts(outlet: Outlet) -> None:
    first = errors.TakenOver()
    outlet.close(first)
    outlet.close(errors.LiveIdle())
    assert outlet.error is first
    finished = Outlet(interim=True)
    finished.close(None)
    finished.close(errors.LiveIdle())
    assert finished.error is None


async def test_leaving_forgets_what_waits(outlet: Outlet) -> None:
    outlet.put(final(0))
    outlet.ack(1600, 0)
    outlet.leave()
    assert outlet.closed and outlet.error is None
    assert await outlet.next() == []


@pytest.mark.parametrize("end", ["close", "leave"])
async def test_who_waits_hears_of_the_end(outlet: Outlet, end: str) -> None:
    waiting = asyncio.create_task(outlet.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    if end == "close":
        outlet.close(errors.Draining())
    else:
        outlet.leave()
    async with asyncio.timeout(1):
        assert await waiting == []


async def test_who_waits_hears_the_news(outlet: Outlet) -> None:
    for news in (lambda: outlet.ack(1, 0), lambda: outlet.partial(partial("a")), lambda: outlet.put(final(0))):
        waiting = asyncio.create_task(outlet.next())
        await asyncio.sleep(0)
        assert not waiting.done()
        news()
        async with asyncio.timeout(1):
            assert len(await waiting) == 1


async def test_finals_that_the_client_has_are_not_said_again() -> None:
    """A lost journal has them heard again."""
    outlet = Outlet(interim=True, last_final=1)
    for number in range(4):
        outlet.put(final(number))
    assert await outlet.next() == [final(2), final(3)]
