"""Rate limits and quotas, without a server: the real parts with a clock that is moved."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from cosygate import errors
from cosygate.adapters.limits_memory import MemoryCounters
from cosygate.adapters.records_sql import SqlRecords
from cosygate.flows.limiting import LIVE, RECORDINGS, Limiting
from cosygate.flows.quotas import QuotasUnknown, QuotaWatch
from cosygate.flows.usage import UsageDesk
from cosygate.model.overview import TenantUse
from cosygate.model.principal import Principal
from cosygate.model.rates import Rate, parse_named_rates, parse_rates
from cosygate.model.usage import Quota, Use, day_of, month_of
from cosygate.settings import load
from tests.contract.test_usage import speak
from tests.support.clock import MovedClock

ANN, BOB, EVE = Principal("ann", "acme"), Principal("bob", "acme"), Principal("ann", "other")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()


# --- what an operator writes -------------------------------------------------------------------------------------


def test_rates_are_read_as_flask_limiter_reads_them() -> None:
    assert parse_rates("600/minute") == (Rate(600, 60),)
    assert parse_rates("100 per hour; 10/minute") == (Rate(10, 60), Rate(100, 3600))
    assert parse_rates("5/10 second,1/day") == (Rate(5, 10), Rate(1, 86_400))
    assert parse_rates("article") == parse_rates("10/minute; 100/hour")
    assert parse_rates("off") == parse_rates(" OFF ") == ()


def test_rates_may_differ_by_what_is_counted() -> None:
    assert parse_named_rates("7/hour") == {"recordings": (Rate(7, 3600),), "live": (Rate(7, 3600),)}
    both = parse_named_rates("recordings=10/minute; 100/hour live=off")
    assert both == {"recordings": (Rate(10, 60), Rate(100, 3600)), "live": ()}
    assert parse_named_rates("live = 3 per minute") == {"recordings": (Rate(600, 60),), "live": (Rate(3, 60),)}
    assert parse_named_rates("off") == {"recordings": (), "live": ()}


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "many", "10", "10/fortnight", "0/minute", "10/minute;", "-1/hour", "1.5/hour", "9" * 5000),
        *("9999999999/minute", "1/3000year", "chunks=1/minute", "live=", "live=1/hour live=2/hour", "x live=1/hour"),
        *("live=recordings=1/hour", "recordings=1/hour, live"),
        ";".join(f"{n}/{n}minute" for n in range(1, 11)),
    ],
)
def test_what_makes_no_sense_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"limit|window") as refused:
        parse_named_rates(text)
    assert not text.strip() or text not in str(refused.value)


def test_a_wrong_setting_refuses_to_start_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "rate_limits": "600/fortnight",
        "unauthenticated_limit": "lots",
        "trusted_proxies": "here",
    }.items():
        monkeypatch.setenv(f"COSYGATE_{name.upper()}", value)
        with pytest.raises(ValueError, match=f"^COSYGATE_{name.upper()}: ") as refused:
            load()
        assert value not in str(refused.value)
        monkeypatch.delenv(f"COSYGATE_{name.upper()}")
    assert load(rate_limits="article", unauthenticated_limit="off", trusted_proxies="10.0.0.0/8, ::1")


# --- days and months ---------------------------------------------------------------------------------------------


def test_days_and_months_are_utcs() -> None:
    last = datetime(2027, 12, 31, 23, 59, 59, 900_000, tzinfo=UTC).timestamp()
    day, month = day_of(last), month_of(last)
    assert (day.begins, month.begins) == ("2027-12-31", "2027-12-01")
    assert day.ends_at == month.ends_at == datetime(2028, 1, 1, tzinfo=UTC).timestamp()
    assert (day_of(day.ends_at).begins, month_of(month.ends_at).begins) == ("2028-01-01", "2028-01-01")
    leap = datetime(2028, 2, 29, 1, tzinfo=UTC).timestamp()
    assert month_of(leap).ends_at == datetime(2028, 3, 1, tzinfo=UTC).timestamp()


# --- quotas ------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock(NOON)


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[SqlRecords]:
    opened = await SqlRecords.open(f"sqlite:///{tmp_path / 'r.db'}", durability="process", busy_s=0.2)
    yield opened
    await opened.close()


def watch(records: SqlRecords, clock: MovedClock, **usual: float) -> QuotaWatch:
    return QuotaWatch(records.usage, records.quotas, clock, Quota(usual.get("day", 0), usual.get("month", 0), 0))


async def test_a_days_quota_is_refused_until_the_next_day(records: SqlRecords, clock: MovedClock) -> None:
    quotas = watch(records, clock, day=60.0)
    await speak(records, 1, "2026-11-22", 59.9)
    assert await quotas.refusal("acme") is None
    await speak(records, 2, "2026-11-22", 0.1)
    await clock.advance(1.1)
    refusal = await quotas.refusal("acme")
    assert refusal is not None
    extra = {"quota": "day", "limit": 60.0, "used": 60.0, "retry_after": 12 * 3600 - 1}
    assert (refusal.status, refusal.close_code, refusal.extra) == (429, 4429, extra)
    assert await quotas.refusal("other") is None
    await clock.advance(12 * 3600 - 1.2)  # a tenth of a second before midnight
    assert await quotas.refusal("acme") is not None
    await clock.advance(0.1)
    assert await quotas.refusal("acme") is None


async def test_a_months_quota_holds_over_days_and_ends_with_the_month(records: SqlRecords, clock: MovedClock) -> None:
    quotas = watch(records, clock, day=60.0, month=100.0)
    await speak(records, 1, "2026-10-31", 500.0)
    await speak(records, 2, "2026-11-01", 50.0)
    assert await quotas.refusal("acme") is None
    await speak(records, 3, "2026-11-22", 60.0)
    await clock.advance(1.1)
    refusal = await quotas.refusal("acme")
    assert refusal is not None and refusal.extra["quota"] == "month" and refusal.extra["used"] == 110.0
    assert refusal.extra["retry_after"] == pytest.approx(8.5 * 86_400, abs=2)
    await clock.advance(86_400)
    assert await quotas.refusal("acme") is not None
    await clock.advance(refusal.extra["retry_after"] - 86_400)
    assert await quotas.refusal("acme") is None


async def test_a_tenants_own_quota_goes_before_the_settings_and_is_heard_of(
    records: SqlRecords, clock: MovedClock
) -> None:
    quotas = watch(records, clock, day=60.0)
    await speak(records, 1, "2026-11-22", 100.0)
    assert await quotas.refusal("acme") is not None
    await records.quotas.set("acme", Quota(day_s=0.0, live=4))
    await quotas.look()
    assert await quotas.refusal("acme") is None  # 0: none at all
    assert quotas.of("acme") == Quota(0.0, 0, 4)
    await records.quotas.set("acme", Quota(day_s=100.0))
    await quotas.look()
    assert await quotas.refusal("acme") is not None
    await records.quotas.clear("acme")
    await quotas.look()
    assert quotas.of("acme") == Quota(60.0, 0, 0)


async def test_what_is_known_is_used_for_a_second_and_read_again_beside(records: SqlRecords, clock: MovedClock) -> None:
    quotas = watch(records, clock, day=60.0)
    assert await quotas.refusal("acme") is None
    await speak(records, 1, "2026-11-22", 60.0)
    await clock.advance(0.4)
    assert await quotas.refusal("acme") is None  # as read before
    await clock.advance(0.3)
    await quotas.refusal("acme")  # begins to read
    for _ in range(200):
        if await quotas.refusal("acme") is not None:
            break
        await asyncio.sleep(0.01)
    else:
        pytest.fail("it was never read again")


async def test_a_database_that_does_not_answer_holds_nobody_up(records: SqlRecords, clock: MovedClock) -> None:
    quotas = watch(records, clock, day=60.0)
    await speak(records, 1, "2026-11-22", 60.0)
    assert await quotas.refusal("acme") is not None
    await records.close()
    await clock.advance(5)
    assert await quotas.refusal("acme") is not None  # use does not shrink within a day
    with pytest.raises(QuotasUnknown):
        await quotas.refusal("other")
    await clock.advance(86_400)
    with pytest.raises(QuotasUnknown):  # of the new day nothing is known
        await quotas.refusal("acme")
    await quotas.look()  # stays as it was


class Hung:
    """Usage records that answer once they are let go."""

    def __init__(self) -> None:
        self.asked, self.go = 0, asyncio.Event()

    async def of_tenant(self, tenant: str, since: str) -> list[Use]:
        self.asked += 1
        await self.go.wait()
        return []


async def test_a_database_that_hangs_is_waited_for_once_a_second(records: SqlRecords, clock: MovedClock) -> None:
    usage: Any = Hung()
    quotas = QuotaWatch(usage, records.quotas, clock, Quota(60.0, 0, 0))

    async def unknown(tenant: str) -> float:
        began = time.monotonic()
        with pytest.raises(QuotasUnknown):
            await quotas.refusal(tenant)
        return time.monotonic() - began

    waited = await asyncio.gather(*(unknown("acme") for _ in range(20)))
    assert min(waited) >= 0.2 and usage.asked == 1  # together
    began = time.monotonic()
    for n in range(20):
        await unknown("acme")
        await unknown(f"another-{n}")  # it is the same database
    assert time.monotonic() - began < 0.2 and usage.asked == 1
    await clock.advance(1)
    assert await unknown("another") >= 0.2 and usage.asked == 2
    assert await unknown("acme") < 0.2
    usage.go.set()  # it answers after all: nobody waits for the rest of the second
    while quotas._reading:
        await asyncio.sleep(0)
    assert await quotas.refusal("acme") is None and await quotas.refusal("new") is None


async def test_a_database_that_fails_is_not_asked_again_for_a_second(records: SqlRecords, clock: MovedClock) -> None:
    quotas = watch(records, clock, day=60.0)
    await records.close()
    asked: list[str] = []
    real = records.usage.of_tenant

    async def of_tenant(tenant: str, since: str) -> list[Use]:
        asked.append(tenant)
        return await real(tenant, since)

    records.usage.of_tenant = of_tenant  # type: ignore[method-assign]
    for _ in range(5):
        with pytest.raises(QuotasUnknown):
            await quotas.refusal("acme")
    assert asked == ["acme"]
    await clock.advance(1)
    with pytest.raises(QuotasUnknown):
        await quotas.refusal("acme")
    assert asked == ["acme"] * 2


async def test_the_operator_sees_those_who_used_most(records: SqlRecords, clock: MovedClock) -> None:
    quotas = watch(records, clock, month=500.0)
    await records.quotas.set("acme", Quota(day_s=9.0))
    await quotas.look()
    await speak(records, 1, "2026-11-21", 5.0)
    await speak(records, 2, "2026-11-22", 1.0, owner="other/x")
    assert await quotas.totals(9) == [TenantUse("acme", 0.0, 5.0, 9.0, 500.0), TenantUse("other", 1.0, 1.0, 0.0, 500.0)]
    assert len(await quotas.totals(1)) == 1


# --- rates and quotas together -----------------------------------------------------------------------------------


def limiting(
    records: SqlRecords, clock: MovedClock, *, failing_open: bool = True, day: float = 0.0, counters: MemoryCounters
) -> Limiting:
    rates = parse_named_rates("recordings=2/minute live=1/minute") | {"unauthenticated": (Rate(3, 60),)}
    return Limiting(counters, watch(records, clock, day=day), clock, rates=rates, failing_open=failing_open)


async def test_each_principal_has_a_rate_of_their_own(records: SqlRecords, clock: MovedClock) -> None:
    limits = limiting(records, clock, counters=MemoryCounters(clock))
    for left in (1, 0):
        assert await limits.refusal(ANN, RECORDINGS) is None
        standing = await limits.count(ANN, RECORDINGS)
        assert standing is not None and standing.remaining == left
    refusal = await limits.refusal(ANN, RECORDINGS)
    assert isinstance(refusal, errors.Refused) and refusal.code == "rate_limited"
    assert refusal.extra == {"retry_after": 60, "policy": "recordings", "limit": 2, "window_s": 60}
    with pytest.raises(errors.Refused):
        await limits.count(ANN, RECORDINGS)
    for caller in (BOB, EVE):
        assert await limits.refusal(caller, RECORDINGS) is None
    assert await limits.refusal(ANN, LIVE) is None
    await limits.uncount(ANN, standing)
    assert await limits.refusal(ANN, RECORDINGS) is None


async def test_what_does_not_begin_is_given_back_from_its_own_place(records: SqlRecords, clock: MovedClock) -> None:
    """A start that fails after another has succeeded makes no room before that one's window has passed."""
    limits = limiting(records, clock, counters=MemoryCounters(clock))
    failing = await limits.count(ANN, RECORDINGS)
    await clock.advance(20)
    await limits.count(ANN, RECORDINGS)
    await limits.uncount(ANN, None)  # whoever has counted nothing gives nothing back
    assert await limits.refusal(ANN, RECORDINGS) is not None
    await limits.uncount(ANN, failing)
    await limits.uncount(ANN, failing)  # once
    standing = await limits.count(ANN, RECORDINGS)
    assert standing is not None and (standing.remaining, standing.reset_s) == (0, 60)
    await clock.advance(59.5)
    assert await limits.refusal(ANN, RECORDINGS) is not None
    await clock.advance(0.5)
    assert await limits.refusal(ANN, RECORDINGS) is None


async def test_strangers_are_counted_by_their_address(records: SqlRecords, clock: MovedClock) -> None:
    limits = limiting(records, clock, counters=MemoryCounters(clock))
    assert [await limits.stranger("192.0.2.1") for _ in range(3)] == [None] * 3
    refusal = await limits.stranger("192.0.2.1")
    assert refusal is not None and refusal.extra["policy"] == "unauthenticated"
    assert await limits.stranger("192.0.2.2") is None


def failed() -> float:
    return REGISTRY.get_sample_value("cv_limits_failed_total") or 0.0


async def test_counters_that_are_down_let_pass_or_refuse_as_the_operator_says(
    records: SqlRecords, clock: MovedClock, capsys: pytest.CaptureFixture[str]
) -> None:
    down = MemoryCounters(clock)
    await down.close()
    before = failed()
    passing = limiting(records, clock, counters=down)
    assert await passing.refusal(ANN, RECORDINGS) is None
    assert await passing.count(ANN, RECORDINGS) is None
    assert await passing.stranger("192.0.2.1") is None
    await passing.uncount(ANN, None)  # nothing was counted, so nothing is given back
    assert failed() == before + 3
    closed = limiting(records, clock, failing_open=False, counters=down)
    refusal = await closed.refusal(ANN, RECORDINGS)
    assert isinstance(refusal, errors.LimitsUnavailable) and refusal.status == 503
    with pytest.raises(errors.LimitsUnavailable):
        await closed.count(ANN, RECORDINGS)
    assert await closed.stranger("192.0.2.1") is None  # 401 it is anyway
    with pytest.raises(errors.LimitsUnavailable):
        await passing.standings(ANN)


async def test_quotas_that_cannot_be_read_are_treated_the_same(records: SqlRecords, clock: MovedClock) -> None:
    counters = MemoryCounters(clock)
    await records.close()
    assert await limiting(records, clock, day=1.0, counters=counters).refusal(ANN, RECORDINGS) is None
    refusal = await limiting(records, clock, day=1.0, failing_open=False, counters=counters).refusal(ANN, LIVE)
    assert isinstance(refusal, errors.LimitsUnavailable)


async def test_trouble_is_logged_once_a_second(
    records: SqlRecords, clock: MovedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    down = MemoryCounters(clock)
    await down.close()
    limits = limiting(records, clock, counters=down)
    told: list[str] = []
    monkeypatch.setattr("cosygate.flows.limiting._log", type("Log", (), {"error": lambda _, a, **__: told.append(a)})())
    for _ in range(5):
        await limits.count(ANN, RECORDINGS)
    assert told == ["limits.unavailable"]
    await clock.advance(1)
    await limits.count(ANN, RECORDINGS)
    assert len(told) == 2


async def test_usage_is_told_with_quotas_and_standings(records: SqlRecords, clock: MovedClock) -> None:
    limits = limiting(records, clock, counters=MemoryCounters(clock))
    desk = UsageDesk(records.usage, watch(records, clock, day=60.0), limits, clock)
    await speak(records, 1, "2026-11-22", 5.0)
    await limits.count(ANN, RECORDINGS)
    seen = await desk.of(ANN)
    assert (seen.tenant, seen.quota, seen.live_open) == ("acme", Quota(60.0, 0, 0), 0)
    assert [(s.name, s.remaining) for s in seen.standings] == [("recordings", 1), ("live", 1)]
    assert sum(row.seconds for row in seen.rows) == 5.0
