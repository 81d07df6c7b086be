"""The contract of ports/usage.py, over every adapter that claims to keep it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cosygate import errors
from cosygate.adapters.records_sql import SqlRecords
from cosygate.model.usage import Quota, TenantTotal, Use
from tests.support.live_records import RESULT, live_job, new_session, session_id


async def speak(records: SqlRecords, number: int, day: str, seconds: float, owner: str = "acme/ann") -> None:
    """A live session that ends at noon of `day` and had so much sound in it."""
    at = datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=UTC).timestamp()
    await records.live.open(new_session(number, owner=owner), max_of_owner=100, max_of_all=100)
    result = RESULT | {"duration": seconds}
    assert await records.live.finish(session_id(number), 1, live_job(number, owner=owner), result, at)


async def test_use_is_told_by_day_and_door(records: SqlRecords) -> None:
    await speak(records, 1, "2026-10-31", 5.0)
    await speak(records, 2, "2026-11-01", 1.5)
    await speak(records, 3, "2026-11-01", 2.0, owner="acme/bob")  # it is the tenant's
    await speak(records, 4, "2026-11-22", 4.0)
    await speak(records, 5, "2026-11-22", 9.0, owner="acme2/ann")
    assert await records.usage.of_tenant("acme", "2026-11-01") == [
        Use("2026-11-01", "live", 3.5, 2),
        Use("2026-11-22", "live", 4.0, 1),
    ]
    assert await records.usage.of_tenant("nobody", "2026-11-01") == []


async def test_the_totals_are_of_those_who_used_most(records: SqlRecords) -> None:
    await speak(records, 1, "2026-10-31", 99.0, owner="old/ann")
    await speak(records, 2, "2026-11-01", 30.0, owner="a/ann")
    await speak(records, 3, "2026-11-22", 20.0, owner="b/ann")
    await speak(records, 4, "2026-11-22", 40.0, owner="b/ann")
    await speak(records, 5, "2026-11-22", 1.0, owner="c/ann")
    b, a, c = TenantTotal("b", 60.0, 60.0), TenantTotal("a", 0.0, 30.0), TenantTotal("c", 1.0, 1.0)
    assert await records.usage.totals("2026-11-22", "2026-11-01", 10) == [b, a, c]
    assert await records.usage.totals("2026-11-22", "2026-11-01", 2) == [b, a]


async def test_open_live_sessions_are_the_tenants_own(records: SqlRecords) -> None:
    owners = ["acme/ann", "acme/bob", "acme/~z", "acme2/ann", "acm/e", "acme-/ann", "acme0/ann"]
    for number, owner in enumerate(owners):
        await records.live.open(new_session(number, owner=owner), max_of_owner=9, max_of_all=99)
    assert await records.usage.live_open("acme") == 3
    await records.live.finish(session_id(0), 1, live_job(0, owner="acme/ann"), RESULT, 2_000.0)
    assert await records.usage.live_open("acme") == 2
    assert await records.usage.live_open("nobody") == 0


async def test_a_quota_is_set_in_part_read_as_a_whole_and_cleared(records: SqlRecords) -> None:
    assert await records.quotas.all() == {}
    assert await records.quotas.set("acme", Quota(day_s=60.0)) == Quota(60.0, None, None)
    assert await records.quotas.set("acme", Quota(month_s=0.0, live=3)) == Quota(60.0, 0.0, 3)
    await records.quotas.set("other", Quota(live=1))
    assert await records.quotas.all() == {"acme": Quota(60.0, 0.0, 3), "other": Quota(None, None, 1)}
    assert await records.quotas.clear("acme") is True
    assert await records.quotas.clear("acme") is False
    assert list(await records.quotas.all()) == ["other"]


async def test_closed_records_are_busy(records: SqlRecords) -> None:
    await records.close()
    with pytest.raises(errors.DatabaseBusy):
        await records.usage.of_tenant("acme", "2026-11-01")
    with pytest.raises(errors.DatabaseBusy):
        await records.quotas.set("acme", Quota(live=1))
