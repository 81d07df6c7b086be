"""The queue's bound, as one process keeps it: exactly, whatever comes at once, and however late the table tells."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import pytest

from cosygate import errors
from cosygate.flows.admission import JUST_NOW_S, Admission, QueueLimits
from cosygate.flows.gate import Gate
from cosygate.flows.holds import Coming, Hold
from cosygate.model.audio import Container, RawFormat
from cosygate.model.cost import LEAST_S, cost_s
from cosygate.model.principal import Principal
from cosygate.model.standing import Standing
from cosygate.ports.records import Depth, Ended, Waiting
from tests.support.clock import MovedClock, SeededRandomness

SECOND = 32_000  # bytes of one, as long as nothing else was seen


class Table:
    """The queue's table, whose answers may be held back."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.jobs: list[Ended] = []  # that have ended, the last one first
        self.reads = self.measures = 0
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

    async def ended(self, since: float, most: int) -> list[Ended]:
        self.measures += 1
        return [job for job in self.jobs if job.at >= since][:most]


class House:
    def __init__(
        self,
        *,
        max_s: float = 100.0,
        tenant: float = 1.0,
        low: float = 1.0,
        processes: int = 1,
        elsewhere: bool = False,
    ) -> None:
        self.table, self.clock = Table(), MovedClock()
        limits = QueueLimits(max_s, tenant, low)
        self.admission = Admission(
            self.table, self.clock, SeededRandomness(), limits, processes=processes, elsewhere=elsewhere
        )

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
    house.admission.queued("u", "a", 320_000, 10.0)
    hold.close()
    assert isinstance(await house.refusal(), errors.QueueFull)


async def test_what_became_a_job_while_the_table_was_read_is_not_forgotten() -> None:
    house = House(max_s=10.0)
    await house.refusal()
    house.table.open.clear()
    house.clock.mono += 0.06
    await house.admission.look()  # in the background
    await settled()
    house.admission.queued("u", "a", 320_000, 10.0)  # after the snapshot
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
        house.admission.queued("u", "a", 100, 10.0)
    assert house.admission.hold("a", 10_000_000).seconds == 300.0


async def test_holds_follow_what_recordings_were_like() -> None:
    house = House()
    for _ in range(200):
        house.admission.queued("u", "a", 3_000, 1.0)  # Opus
    assert house.admission.hold("a", 30_000).seconds == pytest.approx(10.0, rel=0.05)


# --- recordings that come in chunks -----------------------------------------------------------------------------------


async def begin(house: House, upload_id: str, seconds: float, tenant: str = "a") -> bool:
    """Its first chunk of several, up to the end of that request."""
    hold = await house.enter(tenant, int(seconds * SECOND))
    if hold is not None:
        house.admission.arrived(upload_id, tenant, int(seconds * SECOND))
        hold.close()
    return hold is not None


async def test_recordings_that_come_in_chunks_count_by_what_has_arrived() -> None:
    house = House(max_s=1_200.0)
    begun = [n for n in range(200) if await begin(house, f"u{n}", 30.0)]
    assert len(begun) == 40
    for n in begun:
        house.admission.arrived(f"u{n}", "a", 60 * SECOND)
    for n in begun[:21]:
        house.admission.gone(f"u{n}")
    assert await house.refusal() is None, "19 are left, of a minute each"
    for n in begun[21:]:
        house.admission.queued(f"u{n}", "a", 600 * SECOND, 600.0)
    house.table.seconds = {"a": 1_199.0}
    await house.look()
    assert await house.refusal() is None, "what is a job is counted where jobs are"


async def test_what_is_coming_counts_towards_its_tenants_share() -> None:
    house = House(tenant=0.5)
    assert await begin(house, "u", 50.0)
    assert isinstance(await house.refusal("a"), errors.TenantQueueFull)
    assert await house.refusal("b") is None
    assert await begin(house, "v", 50.0, "b")
    assert type(await house.refusal("c")) is errors.QueueFull


async def test_one_of_which_nothing_more_comes_makes_room_and_takes_it_again() -> None:
    house = House()
    assert await begin(house, "u", 100.0)
    house.clock.mono += 9.0
    assert await house.refusal() is not None
    house.clock.mono += 1.0
    assert await house.refusal() is None
    house.admission.arrived("u", "a", 100 * SECOND)
    assert await house.refusal() is not None


async def test_one_that_comes_for_ever_keeps_nobody_out_for_ever() -> None:
    house = House()
    refused = 0
    for _ in range(200):
        house.admission.arrived("u", "a", 100 * SECOND)
        refused += await house.refusal() is not None
        house.clock.mono += 3.0
    assert refused == 100


async def test_none_fills_the_queue_by_a_guess() -> None:
    house = House(max_s=8_000.0)
    for _ in range(200):
        house.admission.queued("v", "b", 1_000, 1.0)
    await house.look()
    house.admission.arrived("u", "a", 100_000_000)  # 27 hours of what the others sent, or 52 minutes of PCM
    house.table.seconds = {"b": 6_999.0}
    await house.look()
    assert await house.refusal() is None
    house.table.seconds = {"b": 7_001.0}
    await house.look()
    assert await house.refusal() is not None, "an eighth of the bound"


def test_what_is_coming_is_bounded_in_number() -> None:
    coming = Coming()
    for n in range(10_100):
        coming.arrived(f"u{n}", "a", 1.0, float(n) / 10_000)
    assert coming.seconds.total == 10_000.0
    coming.expire(60.0)
    assert (coming.seconds.total, coming.seconds["a"]) == (0.0, 0.0)


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


# ... and where workers claim


def end_jobs(house: House, count: int, every_s: float, seconds: float) -> None:
    """Until now, one each `every_s`."""
    now = house.clock.now()
    house.table.jobs = [Ended(now - n * every_s, seconds) for n in range(count)]


@pytest.mark.parametrize(
    ("jobs", "every_s", "seconds"),
    [(50, 1.0, 10.0), (1_000, 0.1, 1.0), (5, 20.0, 200.0), (2, 60.0, 600.0), (1_000, 1.0, 10.0)],
    ids=["steady", "many", "few", "two", "long"],
)
async def test_where_workers_claim_the_table_tells_the_speed(jobs: int, every_s: float, seconds: float) -> None:
    """Ten seconds a second, whatever it is made of: a fiftieth of the bound, 200 s, is free in twenty."""
    house = House(max_s=10_000.0, elsewhere=True)
    house.table.seconds = {"b": 10_000.0}
    end_jobs(house, jobs, every_s, seconds)
    told = [await retry_after(house) for _ in range(200)]
    assert 20 <= min(told) < 24 and 36 < max(told) <= 41


async def test_where_workers_claim_a_speed_that_nobody_knows_is_answered_within_the_same_bounds() -> None:
    house = House(max_s=10_000.0, elsewhere=True)
    house.table.seconds = {"b": 10_000.0}
    for jobs, lowest, highest in ((0, 30, 60), (1, 30, 60), (2, 1, 2)):
        end_jobs(house, jobs, 0.001, 10_000.0)
        house.clock.mono += 3.0
        told = [await retry_after(house) for _ in range(100)]
        assert lowest <= min(told) <= max(told) <= highest
    house.clock.mono += 100.0
    house.table.fails = True  # what was known fades
    told = [await retry_after(house) for _ in range(100)]
    assert 2 <= min(told) <= max(told) <= 5
    house.table.fails, house.table.jobs = False, [Ended(house.clock.now() - n, 0.01) for n in range(9)]
    house.clock.mono += 3.0
    assert max([await retry_after(house) for _ in range(100)]) <= 300


async def test_where_workers_claim_the_speed_is_asked_for_seldom_and_nowhere_else() -> None:
    for elsewhere, measures in ((True, 5), (False, 0)):
        house = House(elsewhere=elsewhere)
        for _ in range(100):
            await house.refusal()
            await settled()
            house.clock.mono += 0.1
        assert (house.table.reads, house.table.measures) == (100, measures)


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
    house.admission.queued("u", "a", 320_000, 10.0)
    assert isinstance(await house.refusal(), errors.QueueFull)
    house.table.fails, house.table.seconds = False, {}
    await house.look()
    assert await house.refusal() is None


async def test_a_table_that_hangs_holds_nobody_up_for_long() -> None:
    house = House()
    house.table.open.clear()
    assert await asyncio.wait_for(house.refusal(), 5.0) is None
    house.clock.mono += 0.3
    await asyncio.wait_for(house.admission.look(JUST_NOW_S), 0.1)  # nor anybody twice
    house.table.open.set()
    await settled()


async def test_a_long_look_is_followed_by_a_long_pause() -> None:
    house = House()
    for took_s, pause_s in ((0.001, 0.049), (0.004, 0.08), (0.01, 0.2), (0.1, 0.5)):
        house.clock.mono += 0.6
        house.table.open.clear()
        asked = asyncio.create_task(house.refusal())
        await settled()
        house.clock.mono += took_s
        house.table.open.set()
        await settled()
        await asked
        reads = house.table.reads
        house.clock.mono += pause_s - 0.001
        await house.refusal()
        await settled()
        assert house.table.reads == reads
        house.clock.mono += 0.002
        await house.refusal()
        await settled()
        assert house.table.reads == reads + 1


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

    async def uncount(self, caller: Principal, counted: Standing | None) -> None:
        pass


@pytest.fixture
def gate_of() -> Callable[[House], Gate]:
    def make(house: House) -> Gate:
        return gate_to(house, Strangers())

    return make


def gate_to(house: House, begun: Strangers) -> Gate:
    limiting = SlowLimits()
    return Gate(
        begun=begun,
        limiting=limiting,  # type: ignore[arg-type]  # as much of it as a gate asks
        admission=house.admission,
        blocked_s=lambda: 0.0,
        drained=lambda: False,
    )


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
    house.clock.mono += 0.8
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


class Senders(Strangers):
    """Every caller has something open."""

    async def knows(self, caller: Principal, session_id: str | None) -> bool:
        return True


@pytest.mark.parametrize("low", [False, True])
async def test_forms_that_were_let_past_a_full_queue_get_its_last_place_once(low: bool) -> None:
    house = House(max_s=100.0)
    house.table.seconds = {"b": 100.0}
    gate = gate_to(house, Senders())
    entries = [await gate.chunk(Principal("ann"), None, size=SECOND) for _ in range(100)]
    house.table.seconds = {"b": 99.5}
    await house.look()
    for entry in entries:
        entry.low = low
    answers = await asyncio.gather(*(entry.begun() for entry in entries), return_exceptions=True)
    assert [type(answer) for answer in answers].count(errors.QueueFull) == 99
    for entry in entries:
        entry.close()
    assert await house.refusal() is None


async def test_one_that_turned_out_to_be_of_low_priority_keeps_its_place(gate_of: Callable[[House], Gate]) -> None:
    house = House(low=0.3)
    house.table.seconds = {"b": 29.0}
    entry = await gate_of(house).chunk(Principal("ann"), None, size=SECOND)
    entry.low = True
    await entry.begun()
    assert await house.refusal(low=True) is not None
    entry.close()
    assert await house.refusal(low=True) is None


async def test_whose_sender_left_before_it_got_a_place_holds_none() -> None:
    house = House(max_s=1.0)
    house.table.seconds = {"b": 1.0}
    entry = await gate_to(house, Senders()).chunk(Principal("ann"), None, size=SECOND)
    house.table.seconds = {}
    await house.look()
    entry.close()
    await entry.begun()
    assert await house.refusal() is None


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


def wav_head(bytes_a_second: int, tag: int) -> bytes:
    """Of compressed samples, behind a chunk that somebody put before."""
    fmt = struct.pack("<HHIIHHH", tag, 1, 8_000, bytes_a_second, 65, 0, 0)
    junk = b"junk" + (3).to_bytes(4, "little") + bytes(4)
    return b"RIFF" + bytes(4) + b"WAVE" + junk + b"fmt " + len(fmt).to_bytes(4, "little") + fmt + b"data" + bytes(4)


def flac_head(rate: int, samples: int) -> bytes:
    told = rate << 44 | 1 << 41 | 15 << 36 | samples
    return b"fLaC\x80" + (34).to_bytes(3, "big") + bytes(10) + told.to_bytes(8, "big") + bytes(16)


@pytest.mark.parametrize(
    ("container", "head", "seconds"),
    [
        (Container.WAV, wav_head(1_625, 0x31), 320_000 / 1_625),  # GSM 6.10
        (Container.WAV, wav_head(8_110, 2), 320_000 / 8_110),  # ADPCM
        (Container.WAV, wav_head(1, 2), 320.0),  # a stranger's word: not beyond belief
        (Container.WAV, wav_head(0, 2), 10.0),
        (Container.WAV, wav_head(4_000_000_000, 2), 10.0),  # it never lowers the cost
        (Container.WAV, b"RIFF", 10.0),
        (Container.FLAC, flac_head(16_000, 1_600_000), 100.0),
        (Container.FLAC, flac_head(16_000, (1 << 36) - 1), 320.0),
        (Container.FLAC, flac_head(192_000, 1), 320_000 / 30_000),
        (Container.FLAC, flac_head(16_000, 0), 320_000 / 30_000),  # a streaming writer's
        (Container.FLAC, flac_head(0, 1_600_000), 320_000 / 30_000),
        (Container.FLAC, b"fLaC", 320_000 / 30_000),
    ],
)
def test_what_compressed_audio_says_of_itself(container: Container, head: bytes, seconds: float) -> None:
    assert cost_s(container, 320_000, head=head) == pytest.approx(seconds)
