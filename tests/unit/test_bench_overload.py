"""What the overload works count: nothing that was sent goes missing, and each bar is on what it says."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bench.load import BadRun
from bench.overload import failing, noisy, tenfold
from bench.overload.arrivals import Arrivals, Crowd, Plan
from bench.overload.serving import judge
from bench.overload.watching import taken

Answers = Callable[[str], tuple[int, dict[str, str]] | None]


@asynccontextmanager
async def server(answers: Answers) -> AsyncIterator[int]:
    """Answers each request so, by its first line; None: never."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                size = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
                await reader.readexactly(size)
                answer = answers(head)
                if answer is None:
                    await reader.read()
                    return
                body = json.dumps(answer[1]).encode()
                writer.write(f"HTTP/1.1 {answer[0]} x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        except (EOFError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


async def arrive(answers: Answers, *crowds: Crowd) -> dict[str, Any]:
    async with server(answers) as port:
        plan = Plan(port, crowds or (Crowd("crowd", "t", 50.0),), 0.4, 0.0, 0.1, 0.0, patience_s=0.5)
        try:
            return await Arrivals(Plan.from_json(plan.to_json())).run()
        finally:
            gc.unfreeze()


def well(head: str) -> tuple[int, dict[str, str]]:
    return (202, {"task_id": "x"}) if head.startswith("PUT") else (200, {"state": "succeeded"})


async def test_what_is_done_and_refused_is_all_that_was_sent() -> None:
    numbers = iter(range(10**6))

    def some(head: str) -> tuple[int, dict[str, str]]:
        return (503, {"code": "queue_full"}) if head.startswith("PUT") and next(numbers) % 2 else well(head)

    found = await arrive(some)
    tally = found["crowd"]
    assert tally["sent"] == tally["done"] + tally["codes"]["queue_full"] > 5
    assert (tally["missing"], tally["faults"]) == (0, 0)
    judge(found)


async def test_a_crowd_may_come_later_than_the_others() -> None:
    seen: list[str] = []

    def heard(head: str) -> tuple[int, dict[str, str]]:
        if head.startswith("PUT"):
            seen.append(head.partition("Bearer ")[2][:5])
        return well(head)

    await arrive(heard, Crowd("early", "early", 50.0, even=True), Crowd("late", "later", 50.0, even=True, starts_s=0.2))
    assert 5 <= seen.index("later") < len(seen) - 3, "not with the first, and then as often as they"


@pytest.mark.parametrize("waits", ["PUT", "GET"])
async def test_a_recording_without_an_answer_is_a_fault(waits: str) -> None:
    """It ends by itself, and tells of each."""
    async with asyncio.timeout(20):
        found = await arrive(lambda head: None if head.startswith(waits) else well(head))
    tally = found["crowd"]
    assert tally["sent"] == tally["missing"] == tally["faults"] > 5
    with pytest.raises(BadRun, match=r"crowd: .* neither done nor refused"):
        judge(found)


async def test_a_closed_loop_whose_recording_is_not_answered_ends_as_well() -> None:
    async with asyncio.timeout(20):
        found = await arrive(lambda _: None, Crowd("crowd", "t", 0.0, workers=2))
    assert found["crowd"]["missing"] == 2
    assert found["crowd"]["faults"] >= 2  # those of before the counted time as well


@pytest.mark.parametrize("answer", [(202, {}), (500, {}), (413, {"code": "too_large"})])
async def test_an_answer_that_is_neither_is_a_fault(answer: tuple[int, dict[str, str]]) -> None:
    found = await arrive(lambda _: answer)
    assert found["crowd"]["missing"] == found["crowd"]["faults"] > 5


def test_one_that_went_missing_without_a_fault_spoils_the_run() -> None:
    tally = {"faults": 0, "first_faults": [], "missing": 1, "sent": 7}
    with pytest.raises(BadRun, match="1 of 7 neither done nor refused"):
        judge({"crowd": tally})
    judge({"crowd": tally | {"missing": 0}})


def test_taken_is_what_was_acknowledged_while_the_breaker_was_open() -> None:
    kept = [("queued", at) for at in (99.0, 100.1, 100.5, 109.9, 110.1, 205.0)]
    assert taken(kept, []) == 0
    assert taken(kept, [{"at": 100.0, "open_s": 10.0}]) == 2
    assert taken(kept, [{"at": 100.0, "open_s": 10.0}, {"at": 200.0, "open_s": 9.0}]) == 3


@pytest.mark.parametrize(("before", "during"), [(120.0, 30.0), (30.0, 120.0)])
def test_live_acks_count_before_the_overload_too(before: float, during: float) -> None:
    tally = {"goodput": 8.0, "done_p50": 1.0, "done_p99": 2.0, "refused_p50": 1.0, "refused_p99": 2.0, "late_p99": 1.0}
    tally |= {"sent": 1, "codes": {}}  # type: ignore[dict-item]
    live = ({"ack_p99": before, "final_p99": 1.0}, {"ack_p99": during, "final_p99": 1.0})
    found = tenfold.figures(tally, tally, tally, live, [100.0] * 9)
    acks = next(verdict for verdict in tenfold.verdicts({"tenfold": [found]}) if "acks" in verdict.what)
    assert (acks.value, acks.reached) == (120.0, False)


def test_few_slots_are_judged_as_many_are() -> None:
    rows = {"without": 4000.0, "with": 4400.0, "few-without": 600.0, "few-with": 900.0}
    found = noisy.verdicts({key: [{"p99_ms": ms, "refused": 0}] for key, ms in rows.items()})
    assert [(verdict.value, verdict.bar, verdict.reached) for verdict in found] == [
        (1.1, 1.2, True),
        (0, 0, True),
        (1.5, 1.2, False),
        (0, 0, True),
    ]


def test_the_noisy_one_sends_ten_times_what_the_whole_engine_can_do() -> None:
    for engine in (noisy.MANY, noisy.FEW):
        assert noisy.TIMES * engine.share == pytest.approx(10 * engine.capacity)


def test_the_breaker_is_judged_with_two_gateways_too() -> None:
    good = {"lost": 0, "taken": 0, "opened_s": 20.0, "closed_s": 10.0, "refused_p99_ms": 5.0}
    found = failing.verdicts({"failing": [good], "two": [good | {"taken": 3}]})
    assert [verdict.what for verdict in found if not verdict.reached] == [
        "two gateways: recordings taken while it was open"
    ]
