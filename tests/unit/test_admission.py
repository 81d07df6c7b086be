"""The queue's bound, as one process keeps it: exactly, whatever comes at once, and however late the table tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cosygate import errors
from cosygate.flows.admission import Admission, Hold, QueueLimits
from cosygate.flows.gate import Gate
from cosygate.model.audio import Container, RawFormat
from cosygate.model.cost import LEAST_S, cost_s
from cosygate.model.principal import Principal
from cosygate.ports.records import Depth, Waiting
from tests.support.clock import MovedClock, SeededRandomness

SECOND = 32_000  # bytes of one, as long as nothing else was seen


class Table:
    """The queue's table, whose answers may be held back."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.reads = 0
        self.fails = False
        self.open = asyncio.Event()
        self.open.set()

    async def waiting(self) -> Depth:
        self.reads += 1
        seen = dict(self.seconds)
        await self.open.wait()
        if self.fails:
            raise errors.DatabaseBusy()
        return Depth({tenant: Waiting(1, seconds) for tenant, seconds in seen.items()}, None)


class House:
    def __init__(self, *, max_s: float = 100.0, tenant: float = 1.0, low: float = 1.0, processes: int = 1) -> None:
        self.table, self.clock = Table(), MovedClock()
        limits = QueueLimits(max_s, tenant, low)
        self.admission = Admission(self.table, self.clock, SeededRandomness(), limits, processes=processes)

    async def refusal(self, tenant: str = "a", *, low: bool = False) -> errors.Unavailable | None:
        await self.admission.look()
        return self.admission.refusal(tenant, low=low)

    async def look(self) -> None:
        """The table is read anew."""
        self.clock.mono += 1.0
        await self.admission.look()
        await settled()

    async def enter(self, tenant: str = "a", size: int | None = SECOND) -> Hold | None:
        return None if await self.refusal(tenant) else self.admission.hold(tenant, size)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


# --- the bound --------------------------------------------------------------------------------------------------------


async def test_what_waits_in_the_table_counts_and_beyond_the_bound_nothing_new_comes() -> None:
    house = House()
    house.table.seconds = {"a": 60.0, "b": 39.0}
    assert await house.refusal() is None
    house.table.seconds["b"] = 40.0
    await house.look()
    refused = await house.refusal()
    assert isinstance(refused, errors.QueueFull)
    assert (refused.code, refused.status) == ("queue_full", 503)
    house.table.seconds["a"] = 0.0
    await house.look()
    assert await house.refusal() is None


async def test_a_hundred_at_once_get_one_place() -> None:
    house = House()
    house.table.seconds = {"b": 99.5}
    entered = await asyncio.gather(*(house.enter() for _ in range(100)))
    assert sum(hold is not None for hold in entered) == 1
    assert house.table.reads == 1, "one look for all of them"


async def test_a_place_is_free_again_when_its_request_ends_and_closing_twice_frees_one() -> None:
    house = House(max_s=2.0)
    first, second = await house.enter(), await house.enter()
    assert first is not None
    assert second is not None
    assert await house.refusal() is not None
    first.close()
    first.close()
    assert await house.enter() is not None
    assert await house.refusal() is not None


async def test_what_became_a_job_here_counts_before_the_table_tells() -> None:
    house = House(max_s=10.0)
    hold = await house.enter()
    assert hold is not None
    house.admission.queued("a", 320_000, 10.0)
    hold.close()
    assert isinstance(await house.refusal(), errors.QueueFull)


async def test_what_became_a_job_while_the_table_was_read_is_not_forgotten() -> None:
    house = House(max_s=10.0)
    await house.refusal()
    house.table.open.clear()
    house.clock.mono += 0.06
    await house.admission.look()  # in the background
    await settled()
    house.admission.queued("a", 320_000, 10.0)  # after the snapshot
    house.table.open.set()
    await settled()
    assert isinstance(await house.refusal(), errors.QueueFull)
    house.table.seconds = {"a": 10.0}
    await house.look()
    house.table.seconds = {}
    await house.look()
    assert await house.refusal() is None, "and is not counted twice for ever"


async def test_what_was_claimed_here_makes_room_at_once() -> None:
    house = House(max_s=10.0)
    house.table.seconds = {"a": 10.0}
    assert await house.refusal() is not None
    seen = house.admission.mark()
    house.admission.claimed("a", 5.0, seen)
    assert await house.refusal() is None


async def test_a_claim_that_the_table_may_have_told_of_is_not_taken_off_twice() -> None:
    house = House(max_s=10.0)
    house.table.seconds = {"a": 15.0}
    assert await house.refusal() is not None
    seen = house.admission.mark()
    house.table.seconds = {"a": 10.0}  # it is claimed, and the table is read, before this process is told
    await house.look()
    house.admission.claimed("a", 5.0, seen)
    assert await house.refusal() is not None


async def test_a_slow_first_chunk_holds_its_room_for_a_while_only() -> None:
    house = House(max_s=1.0)
    assert await house.enter() is not None
    assert await house.refusal() is not None
    house.clock.mono += 31.0
    assert await house.refusal() is None


@pytest.mark.parametrize(("size", "seconds"), [(0, LEAST_S), (1, LEAST_S), (SECOND, 1.0), (None, 8.192)])
async def test_a_hold_is_as_large_as_its_chunk_says(size: int | None, seconds: float) -> None:
    house = House()
    assert house.admission.hold("a", size).seconds == pytest.approx(seconds)


async def test_no_hold_is_larger_than_a_long_recording() -> None:
    """Whoever declares a terabyte, or sends what says little a byte, keeps nobody else out."""
    house = House()
    assert house.admission.hold("a", 10**12).seconds == 300.0
    for _ in range(200):
        house.admission.queued("a", 100, 10.0)
    assert house.admission.hold("a", 10_000_000).seconds == 300.0


async def test_holds_follow_what_recordings_were_like() -> None:
    house = House()
    for _ in range(200):
        house.admission.queued("a", 3_000, 1.0)  # Opus
    assert house.admission.hold("a", 30_000).seconds == pytest.approx(10.0, rel=0.05)


# --- whom it meets first ----------------------------------------------------------------------------------------------


async def test_one_tenant_fills_its_share_and_others_still_get_in() -> None:
    house = House(tenant=0.5)
    house.table.seconds = {"a": 50.0}
    refused = await house.refusal("a")
    assert isinstance(refused, errors.TenantQueueFull)
    assert (refused.code, refused.status) == ("tenant_queue_full", 503)
    assert await house.refusal("b") is None
    house.table.seconds = {"a": 60.0, "b": 40.0}
    await house.look()
    assert type(await house.refusal("c")) is errors.QueueFull


async def test_holds_count_towards_a_tenants_share() -> None:
    house = House(max_s=10.0, tenant=0.2)
    assert [await house.enter("a") is not None for _ in range(4)] == [True, True, False, False]
    assert await house.enter("b") is not None


async def test_low_priority_is_refused_first() -> None:
    house = House(low=0.3)
    house.table.seconds = {"b": 30.0}
    assert await house.refusal(low=False) is None
    assert isinstance(await house.refusal(low=True), errors.QueueFull)
    house.table.seconds = {"b": 29.0}
    await house.look()
    assert await house.refusal(low=True) is None


# --- when to come again -----------------------------------------------------------------------------------------------


async def retry_after(house: House) -> int:
    refused = await house.refusal()
    assert refused is not None
    return int(refused.extra["retry_after"])


async def test_retry_after_follows_the_speed_of_the_queue_and_is_never_the_same_for_all() -> None:
    slow, fast = House(max_s=1_000.0), House(max_s=1_000.0)
    for house, seconds in ((slow, 1.0), (fast, 20.0)):
        house.table.seconds = {"b": 1_000.0}
        for _ in range(60):
            house.admission.claimed("b", seconds, -1)
            house.clock.mono += 1.0
    told_slow = [await retry_after(slow) for _ in range(50)]
    told_fast = [await retry_after(fast) for _ in range(50)]
    assert min(told_slow) > 2 * max(told_fast)
    assert min(told_fast) >= 1
    assert 20 <= min(told_slow) < max(told_slow) <= 60  # 20 s of audio at about one a second, and up to as much again
    assert len(set(told_slow)) > 5


async def test_a_queue_that_stands_still_has_a_bounded_answer() -> None:
    house = House()
    house.table.seconds = {"b": 1e9}
    told = [await retry_after(house) for _ in range(20)]
    house.admission.claimed("b", 0.001, -1)
    told += [await retry_after(house) for _ in range(20)]
    assert 1 <= min(told) <= max(told) <= 300


async def test_several_processes_work_the_queue_off_together() -> None:
    one, four = House(), House(processes=4)
    for house in (one, four):
        house.table.seconds = {"b": 150.0}
        for _ in range(30):
            house.admission.claimed("b", 1.0, -1)
            house.clock.mono += 1.0
    assert sum([await retry_after(one) for _ in range(20)]) > 3 * sum([await retry_after(four) for _ in range(20)])


# --- the table, read --------------------------------------------------------------------------------------------------


async def test_the_table_is_read_at_most_every_50_ms_and_only_when_somebody_asks() -> None:
    house = House()
    for _ in range(100):
        await house.refusal()
        await settled()
        house.clock.mono += 0.01
    assert 15 <= house.table.reads <= 21
    before = house.table.reads
    house.clock.mono += 60.0
    await settled()
    assert house.table.reads == before


async def test_nobody_waits_for_a_look_while_the_last_is_fresh() -> None:
    house = House()
    await house.refusal()
    house.table.open.clear()
    house.clock.mono += 0.9
    await asyncio.wait_for(house.refusal(), 0.05)
    house.table.open.set()
    await settled()


async def test_after_a_pause_the_first_ones_wait_for_what_is_true_now() -> None:
    house = House()
    await house.refusal()
    house.clock.mono += 100.0
    house.table.seconds = {"b": 100.0}  # other processes have filled it
    assert isinstance(await house.refusal(), errors.QueueFull)


async def test_while_the_table_cannot_be_read_the_last_view_holds_and_what_comes_here_counts() -> None:
    house = House()
    house.table.seconds = {"b": 90.0}
    assert await house.refusal() is None
    house.table.fails = True
    await house.look()
    assert await house.refusal() is None
    house.admission.queued("a", 320_000, 10.0)
    assert isinstance(await house.refusal(), errors.QueueFull)
    house.table.fails, house.table.seconds = False, {}
    await house.look()
    assert await house.refusal() is None


async def test_a_table_that_hangs_holds_nobody_up_for_long() -> None:
    house = House()
    house.table.open.clear()
    assert await asyncio.wait_for(house.refusal(), 5.0) is None
    house.table.open.set()
    await settled()


# --- at the gate ------------------------------------------------------------------------------------------------------


class Strangers:
    """Nothing was begun before, but for one recording."""

    def remembers(self, caller: Principal, session_id: str) -> bool:
        return False

    async def knows(self, caller: Principal, session_id: str | None) -> bool:
        return session_id == "known"


class SlowLimits:
    """Limits whose counters are elsewhere: asking takes a while."""

    async def refusal(self, caller: Principal, what: str) -> None:
        await asyncio.sleep(0.001)

    async def count(self, caller: Principal, what: str) -> None:
        await asyncio.sleep(0.001)

    async def uncount(self, caller: Principal, what: str) -> None:
        pass


@pytest.fixture
def gate_of() -> Callable[[House], Gate]:
    def make(house: House) -> Gate:
        limiting = SlowLimits()
        return Gate(
            begun=Strangers(),
            limiting=limiting,  # type: ignore[arg-type]  # as much of it as a gate asks
            admission=house.admission,
            blocked_s=lambda: 0.0,
            drained=lambda: False,
        )

    return make


async def test_through_the_gate_too_the_last_place_is_given_once(gate_of: Callable[[House], Gate]) -> None:
    house = House(max_s=1.0)
    gate = gate_of(house)
    entries = [gate.chunk(Principal("ann"), f"s{n}", size=SECOND) for n in range(100)]
    answers = await asyncio.gather(*entries, return_exceptions=True)
    assert [type(answer) for answer in answers].count(errors.QueueFull) == 99
    known = await gate.chunk(Principal("ann"), "known", size=SECOND)
    known.close()


async def test_nobody_is_refused_for_what_was_true_a_second_ago(gate_of: Callable[[House], Gate]) -> None:
    house = House(max_s=10.0)
    house.table.seconds = {"b": 10.0}
    gate = gate_of(house)
    with pytest.raises(errors.QueueFull):
        await gate.chunk(Principal("ann"), "s", size=SECOND)
    house.table.seconds = {}
    house.clock.mono += 0.2
    house.table.open.clear()  # it takes a moment to read it
    asyncio.get_running_loop().call_later(0.03, house.table.open.set)
    (await gate.chunk(Principal("ann"), "s", size=SECOND)).close()


async def test_a_form_that_turns_out_to_be_of_low_priority_is_asked_about_again(
    gate_of: Callable[[House], Gate],
) -> None:
    house = House(low=0.3)
    house.table.seconds = {"b": 50.0}
    entry = await gate_of(house).chunk(Principal("ann"), None, size=SECOND)
    entry.low = True
    with pytest.raises(errors.QueueFull):
        await entry.begun()
    entry.close()
    house.table.seconds = {}
    await house.look()
    entry = await gate_of(house).chunk(Principal("ann"), None, size=95 * SECOND)
    entry.low = True
    await entry.begun()  # its own room does not stand in its way
    entry.close()


# --- what a recording costs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("container", "size", "raw", "seconds"),
    [
        (Container.RAW, 320_000, RawFormat(16_000, 1), 10.0),
        (Container.RAW, 320_000, RawFormat(8_000, 2), 10.0),
        (Container.OGG, 30_000, None, 10.0),
        (Container.WAV, 320_000, None, 10.0),  # its head cannot be read
        (Container.WAV, 1, None, LEAST_S),
        (Container.MATROSKA, 2 * 1024**3, None, 43_200.0),  # a video: no recording is longer
    ],
)
def test_costs(container: Container, size: int, raw: RawFormat | None, seconds: float) -> None:
    assert cost_s(container, size, raw=raw) == pytest.approx(seconds)
