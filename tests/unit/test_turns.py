"""Whose turn it is: ranks, fairness, who leaves, and when there is no hope."""

from __future__ import annotations

import asyncio
import threading

import pytest

from cosygate.engine.turns import Pace, Rank, Turns
from tests.support.clock import MovedClock


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


def test_partials_get_rarer_with_their_cost_and_with_those_who_speak() -> None:
    pace = Pace(threads=2)
    assert pace.interval_s(1.0) == Pace.EVERY_S, "cheap ones come as often as they may"
    pace.speaking = 8
    long, longer = pace.interval_s(10.0), pace.interval_s(15.0)
    assert Pace.EVERY_S < long < longer
    share = sum((Pace.TELLING_S + 0.05 * 10.0) / long for _ in range(8))
    assert share == pytest.approx(2 * Pace.SHARE), "all together take their share of the threads"
    for _ in range(50):
        pace.took(4.0, 1.0)
    assert pace.interval_s(1.0) > 20


async def in_order(turns: Turns, asked: list[tuple[Rank, str]]) -> list[str]:
    """All wait while one is at work; returns the order in which they were served."""
    go, served = threading.Event(), []
    first = turns.ask(Rank.LATER, go.wait)
    waiting = [turns.ask(rank, lambda name=name: served.append(name)) for rank, name in asked]  # type: ignore[misc]
    go.set()
    await asyncio.gather(first.future, *(turn.future for turn in waiting))
    return served


async def test_finals_go_first_then_files_then_first_partials_then_others(clock: MovedClock) -> None:
    turns = Turns(1, clock)
    asked = [(Rank.LATER, "d"), (Rank.FIRST, "c"), (Rank.FILE, "b"), (Rank.FINAL, "a"), (Rank.FINAL, "a2")]
    assert await in_order(turns, asked) == ["a", "a2", "b", "c", "d"]
    assert turns.busy == 0
    turns.close()


async def test_one_that_asks_again_and_again_goes_round_with_the_others(clock: MovedClock) -> None:
    turns, served = Turns(1, clock), []
    go = threading.Event()
    turns.ask(Rank.FINAL, go.wait)

    async def many(name: str, count: int) -> None:
        for _ in range(count):
            await turns.ask(Rank.FINAL, lambda: served.append(name)).future

    calls = asyncio.gather(many("greedy", 20), many("modest", 3))
    await asyncio.sleep(0)
    go.set()
    await calls
    assert served.index("modest") <= 1
    assert [i for i, name in enumerate(served) if name == "modest"][-1] <= 6
    turns.close()


async def test_who_withdraws_is_not_served_and_takes_no_thread(clock: MovedClock) -> None:
    turns, go = Turns(1, clock), threading.Event()
    running = turns.ask(Rank.FINAL, go.wait)
    leaves = turns.ask(Rank.FINAL, lambda: pytest.fail("it had left"))
    turns.withdraw(leaves)
    turns.withdraw(leaves)
    turns.withdraw(running)
    assert leaves.future.cancelled()
    assert not running.future.done(), "its thread is at work"
    go.set()
    assert await running.future
    assert turns.busy == 0
    turns.close()


async def test_what_the_work_raises_goes_to_who_asked_and_the_next_is_served(clock: MovedClock) -> None:
    turns = Turns(1, clock)
    bad = turns.ask(Rank.FINAL, lambda: int("no number"))
    good = turns.ask(Rank.FINAL, lambda: int("1"))
    with pytest.raises(ValueError, match="no number"):
        await bad.future
    assert await good.future == 1
    turns.close()


async def test_there_is_hope_while_something_moves_and_within_a_recognisers_limit(clock: MovedClock) -> None:
    turns, go = Turns(1, clock), threading.Event()
    hangs = turns.ask(Rank.FINAL, go.wait)
    waits = turns.ask(Rank.FINAL, go.wait)
    assert turns.alive(hangs, None)
    assert turns.alive(waits, None)
    clock.mono += 5.0
    assert not turns.alive(hangs, None)
    assert not turns.alive(waits, None), "nothing has moved for its turn to come"
    assert turns.alive(hangs, 10.0)
    assert turns.alive(waits, 10.0)
    go.set()
    await asyncio.gather(hangs.future, waits.future)
    turns.close()
