"""The contract of ports/webhooks.py, Sending: whose turn it is, over the records."""

from __future__ import annotations

import asyncio
from collections import Counter

from cosygate.adapters.records_sql import SqlRecords
from cosygate.model.webhook import Answer, DeliveryState
from cosygate.ports.webhooks import Begun, Room
from tests.support.deliveries import ended
from tests.support.records import Place

NOW, FAR = 1_000_000.0, 100_000.0


class Numbers:
    def __init__(self, records: SqlRecords) -> None:
        self.records, self.last = records, 0

    async def waiting(self, tenant: str, host: str = "r.example", count: int = 1, now: float = NOW - 100) -> None:
        for _ in range(count):
            self.last += 1
            await ended(
                self.records, self.last, now=now + self.last / 1000, url=f"https://{host}/", owner=f"{tenant}/u"
            )


async def begin(records: SqlRecords, now: float = NOW, room: Room | None = None) -> list[Begun]:
    return await records.sending.begin(now, FAR, 20.0, room or Room())


def tenants(begun: list[Begun]) -> Counter[str]:
    return Counter(one.delivery.tenant for one in begun)


async def test_of_one_tenant_two_go_to_one_host_and_half_of_all_to_many(records: SqlRecords) -> None:
    numbers = Numbers(records)
    await numbers.waiting("acme", "r.example", 5)
    assert [b.delivery.id[-1] for b in await begin(records)] == ["1", "2"], "the oldest first"
    assert await begin(records) == []
    for n in range(20):
        await numbers.waiting("acme", f"r{n}.example", 2)
    assert len(await begin(records)) == 6
    await numbers.waiting("other", "r.example", 3)
    assert tenants(await begin(records)) == {"other": 2}


async def test_however_many_receivers_of_one_tenant_are_slow_the_others_find_room(records: SqlRecords) -> None:
    numbers = Numbers(records)
    for n in range(30):
        await numbers.waiting("noisy", f"r{n}.example", 4)
    assert tenants(await begin(records)) == {"noisy": 8}
    for tenant, room in (("b", 4), ("c", 2), ("d", 1), ("e", 1)):
        await numbers.waiting(tenant, count=1)
        await numbers.waiting(tenant, "second.example", 9)
        await numbers.waiting(tenant, "third.example", 9)
        assert tenants(await begin(records)) == {tenant: min(room, 5)}
    await numbers.waiting("f")
    assert await begin(records) == [], "sixteen in all"


async def test_tenants_take_turns_and_nobody_is_left_out(records: SqlRecords) -> None:
    numbers = Numbers(records)
    for tenant in ("a", "b", "c"):
        await numbers.waiting(tenant, count=6)
    served: Counter[str] = Counter()
    for turn in range(9):
        [one] = await begin(records, NOW + turn, Room(total=1, each=2))
        served[one.delivery.tenant] += 1
        assert await records.sending.end(one.delivery, DeliveryState.DELIVERED, Answer(200), NOW)
    assert served == {"a": 3, "b": 3, "c": 3}


async def test_a_host_without_room_does_not_hide_what_is_behind_it(records: SqlRecords) -> None:
    numbers = Numbers(records)
    await numbers.waiting("acme", "slow.example", 100)
    await numbers.waiting("acme", "quick.example", 1)
    begun = await begin(records)
    assert [b.delivery.url for b in begun] == ["https://slow.example/"] * 2 + ["https://quick.example/"]


async def test_not_even_a_line_longer_than_what_is_looked_at(records: SqlRecords) -> None:
    numbers = Numbers(records)
    await numbers.waiting("acme", "dead.example", 450)
    await numbers.waiting("acme", "quick.example", 1)
    begun = await begin(records)
    assert [b.delivery.url for b in begun] == ["https://dead.example/"] * 2 + ["https://quick.example/"]
    await numbers.waiting("acme", "late.example", 1)  # while the dead one's tries are under way
    assert [b.delivery.url for b in await begin(records)] == ["https://late.example/"]


async def test_several_processes_never_begin_the_same_try(records: SqlRecords, place: Place) -> None:
    numbers = Numbers(records)
    for n in range(8):
        await numbers.waiting(f"t{n}", count=4)
    doors = [await place.open() for _ in range(3)]
    rounds = await asyncio.gather(*(begin(door) for door in doors for _ in range(4)))
    ids = [one.delivery.id for begun in rounds for one in begun]
    assert len(ids) == len(set(ids)) == 15, "the last place is for a tenant that has none"
    for door in doors:
        await door.close()


async def test_a_late_word_about_a_lost_try_does_not_end_the_one_that_runs_now(records: SqlRecords) -> None:
    await Numbers(records).waiting("acme")
    [lost] = await begin(records)
    assert await begin(records, NOW + 19) == []
    [now] = await begin(records, NOW + 21)
    assert (lost.delivery.attempt, now.delivery.attempt) == (1, 2)
    failed = Answer(500, "http_status")
    assert await records.sending.end(lost.delivery, DeliveryState.DEAD, failed, NOW) is False
    assert await records.sending.end(now.delivery, DeliveryState.PENDING, failed, NOW + 300) is True
    assert await records.sending.end(now.delivery, DeliveryState.DEAD, failed, NOW) is False, "once"


async def test_what_is_due_is_seen_and_nothing_else(records: SqlRecords) -> None:
    numbers = Numbers(records)
    assert await records.sending.due(NOW, FAR) is False
    await numbers.waiting("acme", now=NOW + 50)
    assert await records.sending.due(NOW, FAR) is False
    assert await begin(records) == []
    assert await records.sending.due(NOW + 51, FAR) is True
    assert await records.sending.due(NOW - 2 * FAR, FAR) is True, "the clock has jumped"
    assert len(await begin(records, NOW - 2 * FAR)) == 1


async def test_looking_costs_the_same_with_many_tenants_and_much_that_waits(place: Place) -> None:
    records = await place.open()
    await ended(records, 1, now=NOW - 1, url="https://r.example/", owner="aaa/u")
    await records.close()

    def write(ids: str, tenant: str, due_at: str, count: int) -> None:
        numbers = f"WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count - 1})"
        place.rows(
            "INSERT INTO deliveries (id, job_id, owner, tenant, url, host, kind, state, attempt, due_at, created_at) "
            f"{numbers} SELECT '{ids}' || n, '{1:032x}', {tenant} || '/u', {tenant}, 'https://x.example/', "
            f"'x.example:443', 'k', 'pending', 1, {due_at}, 1 FROM numbers"
        )

    write("msg_w", "'big'", f"{NOW + 60} + n / 1000.0", 60_000)  # 3,000 tenants, of which one has 60,000 not yet due
    write("msg_t", "'t' || substr('000' || n, length('000' || n) - 3)", f"{NOW + 60}", 3_000)
    write("msg_last", "'zzz'", f"{NOW - 1}", 1)
    records = await place.open()
    found: set[str] = set()
    for _ in range(6):  # a thousand tenants a time
        found |= {one.delivery.tenant for one in await begin(records)}
    assert found == {"aaa", "zzz"}
    await records.close()
