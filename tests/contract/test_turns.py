"""Turns between tenants: whatever waits, nobody gets much more than another, nobody waits for ever, and old jobs of one
tenant cost the others nothing. Over the records port, with backlogs that Hypothesis thinks of."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cosygate.adapters.records_sql import SqlRecords
from cosygate.model.job import MAX_LOST, Claim, Requeue
from cosygate.ports.records import Ended
from tests.contract.conftest import POSTGRES
from tests.support.records import Place, a_place, submit

COSTS = st.sampled_from((0.001, 0.25, 1.0, 7.3, 60.0, 43_200.0)) | st.floats(0.001, 43_200.0)
BACKLOGS = st.lists(st.lists(COSTS, min_size=1, max_size=8), min_size=1, max_size=6)
UNSERVED = (Requeue.HAND_BACK, Requeue.LOST)
QUIET = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


KINDS = ["sqlite-process", POSTGRES]


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with a_place(request.param) as found:
        yield found


class Line:
    """A queue with tenants t0, t1, … ."""

    def __init__(self, records: SqlRecords) -> None:
        self.records = records
        self._numbers = itertools.count(1)

    async def add(self, tenant: int, cost_s: float, *, priority: int = 0) -> str:
        number = next(self._numbers)
        return (await submit(self.records, number, owner=f"t{tenant}/ann", priority=priority, cost_s=cost_s)).id

    async def fill(self, backlogs: list[list[float]]) -> None:
        """At once: writes that wait together share a commit."""
        await asyncio.gather(*(self.add(tenant, cost) for tenant, costs in enumerate(backlogs) for cost in costs))

    async def next(self) -> Claim | None:
        return await self.records.leases.claim("w", 5_000.0)

    async def next_tenant(self) -> int:
        claim = await self.next()
        assert claim is not None
        return tenant_of(claim)


def tenant_of(claim: Claim) -> int:
    return int(claim.job.owner[1:].partition("/")[0])


@asynccontextmanager
async def a_line(place: Place) -> AsyncIterator[Line]:
    records = await place.open()
    try:
        yield Line(records)
    finally:
        await records.close()


class Lasting:
    """One line for many examples: each leaves it empty."""

    def __init__(self, place: Place) -> None:
        self._loop = asyncio.new_event_loop()
        self._ran: Counter[str] = Counter()  # examples, by test
        self._most = QUIET.max_examples if place.sqlite else 10  # where each takes ten times as long
        self.line = Line(self._loop.run_until_complete(place.open()))

    def run(self, test: Coroutine[Any, Any, None]) -> None:
        self._ran[test.__qualname__] += 1
        if self._ran[test.__qualname__] > self._most:
            test.close()
            return
        self._loop.run_until_complete(test)
        self._loop.run_until_complete(self._empty())

    async def _empty(self) -> None:
        while await self.line.next() is not None:
            pass

    def close(self) -> None:
        self._loop.run_until_complete(self.line.records.close())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


@pytest.fixture(scope="module", params=KINDS)
def lasting(request: pytest.FixtureRequest) -> Iterator[Lasting]:
    with a_place(request.param) as place:
        found = Lasting(place)
        yield found
        found.close()


@QUIET
@given(backlogs=BACKLOGS)
def test_no_tenant_gets_much_more_than_another(lasting: Lasting, backlogs: list[list[float]]) -> None:
    line = lasting.line

    async def serve() -> None:
        await line.fill(backlogs)
        served: Counter[int] = Counter()  # seconds
        left = {tenant: list(costs) for tenant, costs in enumerate(backlogs)}
        largest = max(max(costs) for costs in backlogs)
        while any(left.values()):
            claim = await line.next()
            assert claim is not None, "somebody waits, and is not served"
            tenant = tenant_of(claim)
            assert claim.job.cost_s == left[tenant].pop(0), "within a tenant the oldest first"
            served[tenant] += claim.job.cost_s
            waiting = [served[other] for other, costs in left.items() if costs]
            if waiting:
                assert max(waiting) - min(waiting) <= largest + 1e-6
        assert await line.next() is None

    lasting.run(serve())


@QUIET
@given(backlogs=BACKLOGS, back=st.lists(st.booleans(), max_size=MAX_LOST - 1), why=st.sampled_from(UNSERVED))
def test_what_is_handed_back_is_not_charged(
    lasting: Lasting, backlogs: list[list[float]], back: list[bool], why: Requeue
) -> None:
    """Whose engine fails again and again is not pushed back for it: what was kept counts, as if nothing had been tried
    in vain."""
    line = lasting.line

    async def serve() -> None:
        await line.fill(backlogs)
        kept: Counter[int] = Counter()  # seconds
        left = {tenant: list(costs) for tenant, costs in enumerate(backlogs)}
        largest = max(max(costs) for costs in backlogs)
        fails = iter(back)
        while any(left.values()):
            claim = await line.next()
            assert claim is not None, "somebody waits, and is not served"
            if next(fails, False):
                await line.records.leases.requeue(claim.job_id, claim.fence, why, 5_000.0)
                continue
            tenant = tenant_of(claim)
            kept[tenant] += left[tenant].pop(0)
            waiting = [kept[other] for other, costs in left.items() if costs]
            if waiting:
                assert max(waiting) - min(waiting) <= largest + 1e-6

    lasting.run(serve())


@pytest.mark.parametrize("why", UNSERVED)
async def test_a_long_job_that_comes_back_is_next_again(place: Place, why: Requeue) -> None:
    """Even when others were served while it was in vain in an engine's hands."""
    async with a_line(place) as line:
        long = await line.add(0, 43_200.0)
        for _ in range(30):
            await line.add(1, 60.0)
        for _ in range(5):
            claim = await line.next()
            assert claim is not None
            assert claim.job_id == long
            assert [await line.next_tenant() for _ in range(3)] == [1, 1, 1]
            await line.records.leases.requeue(claim.job_id, claim.fence, why, 5_000.0)


async def test_a_job_that_its_recording_failed_is_paid_for(place: Place) -> None:
    async with a_line(place) as line:
        await line.add(0, 100.0)
        for _ in range(3):
            await line.add(1, 40.0)
        claim = await line.next()
        assert claim is not None
        await line.records.leases.requeue(claim.job_id, claim.fence, Requeue.RECORDING, 5_000.0)
        assert [await line.next_tenant() for _ in range(4)] == [1, 1, 1, 0]


async def test_what_a_recording_really_was_is_owed_instead_of_what_was_thought(place: Place) -> None:
    async with a_line(place) as line:
        for _ in range(3):
            await line.add(0, 1.0)
            await line.add(1, 1.0)
        claims = [await line.next() for _ in range(2)]
        for claim, real_s in zip(claims, (600.0, 1.0), strict=True):
            assert claim is not None
            assert await line.records.leases.commit(claim, 5_000.0, result={"text": "", "duration": real_s})
        await line.add(2, 5.0)
        assert [await line.next_tenant() for _ in range(5)] == [2, 1, 1, 0, 0], "0 has had ten minutes"


async def test_what_was_thought_too_long_is_taken_off_but_nobody_gets_credit(place: Place) -> None:
    async with a_line(place) as line:
        for tenant in (0, 1):
            await line.add(tenant, 600.0)
            for _ in range(6):
                await line.add(tenant, 1.0)
        claims = [await line.next() for _ in range(2)]
        for claim in claims:
            assert claim is not None
            if tenant_of(claim) == 0:
                await line.records.leases.commit(claim, 5_000.0, result={"text": "", "duration": 0.1})
        served = [await line.next_tenant() for _ in range(7)]
        assert served[:6] == [0] * 6, "it owes nothing, the other ten minutes"
        for claim in claims:
            if claim is not None and tenant_of(claim) == 1:
                await line.records.leases.commit(claim, 5_000.0, result={"text": "", "duration": 0.1})
        await line.add(0, 1.0)
        assert [await line.next_tenant() for _ in range(3)].count(0) == 1


async def test_alone_a_tenant_owes_nothing_for_what_was_longer_than_thought(place: Place) -> None:
    records = await place.open()
    line = Line(records)
    await line.add(0, 1.0)
    claim = await line.next()
    assert claim is not None
    await records.leases.commit(claim, 5_000.0, result={"text": "", "duration": 600.0})
    assert place.rows("SELECT * FROM turns") == []
    await records.close()


@QUIET
@given(first=BACKLOGS, later=st.lists(st.tuples(st.integers(0, 5), COSTS, st.booleans()), max_size=30))
def test_nobody_waits_for_ever(
    lasting: Lasting, first: list[list[float]], later: list[tuple[int, float, bool]]
) -> None:
    """Whoever comes meanwhile, goes, comes back: one whose tenant owes nothing waits for one job of each other tenant,
    and for what is older."""
    line = lasting.line

    async def serve() -> None:
        costs = [cost for backlog in first for cost in backlog] + [cost for _, cost, _ in later] + [30.0]
        await line.fill(first)
        watched = await line.add(9, 30.0)
        passed: Counter[int] = Counter()  # seconds of audio that it was served
        coming = iter(later)
        while (claim := await line.next()) is not None and claim.job_id != watched:
            passed[tenant_of(claim)] += claim.job.cost_s
            for tenant, cost, again in itertools.islice(coming, 1):
                await line.add(tenant, cost)
                if again:  # it is its tenant's turn still, however often: what it was not served does not count
                    await line.records.leases.requeue(claim.job_id, claim.fence, Requeue.HAND_BACK, 5_000.0)
                    passed[tenant_of(claim)] -= claim.job.cost_s
        assert claim is not None
        for tenant, seconds in passed.items():
            assert seconds <= 2 * max(costs) + 1e-6, f"t{tenant} went before it again and again"

    lasting.run(serve())


async def test_a_tenant_with_a_crowd_waiting_does_not_hold_up_one_that_just_came(place: Place) -> None:
    async with a_line(place) as line:
        for _ in range(50):
            await line.add(0, 5.0)
        assert [await line.next_tenant() for _ in range(3)] == [0, 0, 0]
        for _ in range(3):
            await line.add(1, 5.0)
        assert [await line.next_tenant() for _ in range(8)] == [1, 0, 1, 0, 1, 0, 0, 0]
        await line.add(1, 5.0)
        assert await line.next_tenant() == 1, "at once: the crowd's tenant owes more"


async def test_who_sends_one_at_a_time_gets_no_more_than_who_sends_a_crowd(place: Place) -> None:
    async with a_line(place) as line:
        for tenant in (1, 2):
            for _ in range(60):
                await line.add(tenant, 5.0)
        served: Counter[int] = Counter()  # seconds
        await line.add(0, 50.0)
        before = -1
        for _ in range(90):
            claim = await line.next()
            assert claim is not None
            served[tenant_of(claim)] += int(claim.job.cost_s)
            if before == 0:
                await line.add(0, 50.0)  # it has had nothing waiting, for one turn
            before = tenant_of(claim)
        assert 150 <= served[0] <= min(served[1], served[2]) + 50


async def test_after_a_long_recording_the_others_have_as_much(place: Place) -> None:
    async with a_line(place) as line:
        await line.add(0, 100.0)
        for _ in range(40):
            await line.add(1, 5.0)
        await line.add(0, 5.0)
        served = [await line.next_tenant() for _ in range(42)]
        first, second = (place for place, tenant in enumerate(served) if tenant == 0)
        assert first == 0
        assert second in (21, 22), "when the other has had a hundred seconds, too"


async def test_who_has_waited_for_nothing_saves_nothing_up(place: Place) -> None:
    async with a_line(place) as line:
        for tenant in (1, 2):
            for _ in range(30):
                await line.add(tenant, 1.0)
        assert {await line.next_tenant() for _ in range(40)} == {1, 2}
        for _ in range(12):
            await line.add(0, 1.0)
        assert [await line.next_tenant() for _ in range(9)].count(0) in (3, 4)


async def test_with_nobody_left_to_wait_all_debts_are_forgotten(place: Place) -> None:
    records = await place.open()
    line, debts = Line(records), "SELECT priority, tenant, debt_s FROM turns ORDER BY tenant"
    for tenant, cost in ((0, 1.0), (1, 7.0), (0, 1.0), (1, 7.0)):
        await line.add(tenant, cost)
    assert [await line.next_tenant() for _ in range(3)] == [0, 1, 0]
    assert place.rows(debts) == [(0, "t0", 1.0), (0, "t1", 6.0)]
    assert await line.next_tenant() == 1
    assert place.rows(debts) == [], "it was alone, and nobody else owes"
    for tenant, priority in ((0, 10), (1, 10), (0, 10)):
        await line.add(tenant, 5.0, priority=priority)
    await line.next()
    await line.add(2, 1.0)
    await line.next()
    while await line.next() is not None:
        pass
    assert place.rows(debts) == []
    await records.close()


async def test_more_urgent_jobs_go_first_whoever_waits_with_others(place: Place) -> None:
    async with a_line(place) as line:
        for tenant in (0, 1):
            for _ in range(2):
                await line.add(tenant, 5.0, priority=10)
        assert await line.next_tenant() in (0, 1)
        await line.add(2, 500.0)
        await line.add(3, 500.0)
        assert {await line.next_tenant(), await line.next_tenant()} == {2, 3}
        assert sorted([await line.next_tenant() for _ in range(3)]) in ([0, 0, 1], [0, 1, 1])


async def test_one_tenant_alone_leaves_no_row_and_is_served_by_age(place: Place) -> None:
    records = await place.open()
    line = Line(records)
    ids = [await line.add(0, cost) for cost in (43_200.0, 0.001, 5.0)]
    assert [(await line.next()).job_id for _ in ids] == ids  # type: ignore[union-attr]  # there are as many
    assert place.rows("SELECT * FROM turns") == []
    await records.close()


async def test_the_depth_tells_who_waits_for_how_much_and_since_when(place: Place) -> None:
    async with a_line(place) as line:
        empty = await line.records.depth.waiting()
        assert (empty.jobs, empty.seconds, empty.oldest_at) == (0, 0.0, None)
        await line.add(0, 2.0)
        await line.add(1, 30.0)
        await line.add(0, 3.0, priority=10)
        first = await line.next()
        assert first is not None
        await line.records.leases.requeue(first.job_id, first.fence, Requeue.HAND_BACK, 5_000.0, delay_s=30.0)
        depth = await line.records.depth.waiting()
        assert {tenant: (w.jobs, w.seconds) for tenant, w in depth.tenants.items()} == {"t0": (2, 5.0), "t1": (1, 30.0)}
        assert (depth.jobs, depth.seconds, depth.oldest_at) == (3, 35.0, 2_001.5)
        assert [tenant for tenant, _ in depth.heaviest(1)] == ["t1"]


async def test_the_depth_tells_what_ended_last_and_how_much_that_was(place: Place) -> None:
    async with a_line(place) as line:
        leases, depth = line.records.leases, line.records.depth
        assert await depth.ended(0.0, 9) == []
        for cost in (2.0, 3.0, 4.0):
            await line.add(0, cost)
        error = ("media_empty", "")
        for at, result in ((10.0, {"duration": 2.5}), (20.0, None)):
            claim = await line.next()
            assert claim is not None
            assert await leases.commit(claim, at, result=result, error=None if result else error)
        waits = await line.add(0, 5.0)
        assert await line.records.jobs.cancel("t0/ann", waits, 30.0)
        assert await line.next() is not None  # runs
        told = [Ended(30.0, 0.0), Ended(20.0, 3.0), Ended(10.0, 2.0)]
        assert await depth.ended(0.0, 9) == told
        assert await depth.ended(0.0, 2) == told[:2]
        assert await depth.ended(20.0, 9) == told[:2]


async def test_turns_of_one_priority_are_its_own(place: Place) -> None:
    """Who claims the low ones alone leaves the debts of the others as they are, and the other way round."""
    async with a_line(place) as line:
        for tenant in (0, 1):
            for priority in (0, 10):
                for _ in range(4):
                    await line.add(tenant, 5.0, priority=priority)

        async def low() -> int:
            claim = await line.records.leases.claim("low", 5_000.0, priorities=(5, 10))
            assert claim is not None and claim.job.priority == 10
            return tenant_of(claim)

        async def urgent() -> int:
            claim = await line.records.leases.claim("urgent", 5_000.0, priorities=(0, 4))
            assert claim is not None and claim.job.priority == 0
            return tenant_of(claim)

        served = [(await urgent(), await low()) for _ in range(4)]
        assert [one for one, _ in served] in ([0, 1, 0, 1], [1, 0, 1, 0])
        assert [one for _, one in served] in ([0, 1, 0, 1], [1, 0, 1, 0])
        for _ in range(4):
            await urgent()
        debts = place.rows("SELECT tenant FROM turns WHERE priority = 10")
        assert debts
        assert await line.records.leases.claim("urgent", 5_000.0, priorities=(0, 4)) is None
        assert place.rows("SELECT tenant FROM turns WHERE priority = 10") == debts, "not its to forget"
        assert place.rows("SELECT tenant FROM turns WHERE priority = 0") == []
        assert sorted([await low() for _ in range(4)]) == [0, 0, 1, 1]
        assert await line.records.leases.claim("low", 5_000.0, priorities=(5, 10)) is None
        assert place.rows("SELECT * FROM turns") == []


@pytest.mark.parametrize("claimers", [8])
async def test_turns_hold_when_many_claim_at_once(place: Place, claimers: int) -> None:
    async with a_line(place) as line:
        await line.fill([[2.0] * 24, [2.0] * 24, [2.0] * 24])
        doors = [await place.open() for _ in range(2)]
        for _ in range(6):
            claims = await asyncio.gather(*(doors[n % 2].leases.claim("w", 5_000.0) for n in range(claimers)))
            assert None not in claims
            shares = Counter(tenant_of(claim) for claim in claims if claim)
            assert max(shares.values()) - min(shares.values()) <= 2, "of eight: two or three each"
        assert await line.records.health.counts() == {
            "queued": 24, "running": 48, "succeeded": 0, "failed": 0, "cancelled": 0
        }  # fmt: skip
        for door in doors:
            await door.close()
