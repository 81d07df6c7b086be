"""What metrics are made of: bounded labels, the right clock, and the vital signs of a process."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from cosygate.api import system
from cosygate.kit import metrics
from cosygate.kit.meters import MOST, OTHER, Counter, Gauge
from cosygate.kit.vitals import Vitals
from tests.support.clock import MovedClock


def all_metrics() -> list[MetricWrapperBase]:
    return [m for m in vars(metrics).values() if isinstance(m, MetricWrapperBase)]


def test_labels_without_end_end_in_other() -> None:
    counter = Counter("odd", "Odd.", ["a", "b"], registry=CollectorRegistry())
    for number in range(3 * MOST):
        counter.labels(f"name-{number}", "x").inc()
    counter.labels("name-0", "x").inc()
    samples = {tuple(s.labels.values()): s.value for s in counter.collect()[0].samples if s.name == "odd_total"}
    assert len(samples) == MOST + 1
    assert samples[OTHER, OTHER] == 2 * MOST
    assert samples["name-0", "x"] == 2


def test_every_metric_is_bounded_named_and_told_of() -> None:
    """A plain one of prometheus-client's would pass every other test."""
    for metric in all_metrics():
        assert type(metric).__module__ == "cosygate.kit.meters", metric
    names = [m._name + "_total" * (m._type == "counter") for m in all_metrics()]
    assert sorted(names) == sorted(metrics.NAMES)


def test_gauges_end_with_their_process() -> None:
    """`all` would make a series for each process, `max` or `mostrecent` would stay after its death."""
    modes = {m._name: m._multiprocess_mode for m in all_metrics() if isinstance(m, Gauge)}
    assert modes.pop("cv_gateway_start_time_seconds") == "mostrecent"  # true also of one that is gone
    assert set(modes.values()) == {"livesum", "livemostrecent"}


def test_the_latest_value_is_not_the_wall_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour back, and for an hour another process's old value would be the latest."""
    told: list[Any] = []
    gauge = Gauge("g", "G.", multiprocess_mode="livemostrecent", registry=CollectorRegistry())
    monkeypatch.setattr(gauge, "_value", type("Value", (), {"set": lambda *_, **fields: told.append(fields)})())
    before = time.monotonic()
    gauge.set(1)
    assert before <= told[0]["timestamp"] <= time.monotonic()


def test_methods_that_nobody_knows_are_other() -> None:
    assert [metrics.method(name) for name in ("GET", "PUT", "FOO", "get", "")] == ["GET", "PUT", OTHER, OTHER, OTHER]


def of(metric: MetricWrapperBase, suffix: str = "") -> float:
    return next(s.value for s in metric.collect()[0].samples if s.name == metric._name + suffix)


async def test_vitals_tell_how_late_the_loop_was() -> None:
    clock = MovedClock()
    vitals = Vitals(clock)
    count, total = of(metrics.loop_lag, "_count"), of(metrics.loop_lag, "_sum")
    look = asyncio.create_task(vitals.look())
    await asyncio.sleep(0)
    await clock.advance(0.75)  # asked for 0.05
    await look
    assert of(metrics.loop_lag, "_count") == count + 1
    assert of(metrics.loop_lag, "_sum") - total == pytest.approx(0.70)
    assert of(metrics.resident_bytes) > 10_000_000
    assert of(metrics.open_fds) >= 3


async def test_who_asks_at_the_same_time_shares_one_look() -> None:
    """But nobody gets what was looked at before they asked."""
    looks, may_end = 0, asyncio.Event()

    async def measure() -> None:
        nonlocal looks
        looks += 1
        metrics.engine_queue.set(looks)
        await may_end.wait()

    scrapes = system._Scrapes(measure)
    first = asyncio.create_task(scrapes.text())
    while not looks:
        await asyncio.sleep(0)
    later = [asyncio.create_task(scrapes.text()) for _ in range(50)]
    may_end.set()
    assert b"cv_engine_queue_len 1.0" in await first
    assert all(b"cv_engine_queue_len 2.0" in text for text in await asyncio.gather(*later))
    assert looks == 2
    assert b"cv_engine_queue_len 3.0" in await scrapes.text()


async def test_a_look_that_fails_is_not_the_next_ones_fault() -> None:
    looks, may_end = 0, asyncio.Event()

    async def measure() -> None:
        nonlocal looks
        looks += 1
        metrics.engine_queue.set(looks)
        await may_end.wait()
        if looks == 2:
            raise OSError

    scrapes = system._Scrapes(measure)
    first = asyncio.create_task(scrapes.text())
    while not looks:
        await asyncio.sleep(0)
    second, third = asyncio.create_task(scrapes.text()), asyncio.create_task(scrapes.text())
    await asyncio.sleep(0)  # both wait for the second look, which will fail
    may_end.set()
    assert b"cv_engine_queue_len 1.0" in await first
    with pytest.raises(OSError):
        await second
    assert b"cv_engine_queue_len 3.0" in await third


def test_labels_that_are_told_of_exist() -> None:
    names = {m._name + "_total" * (m._type == "counter"): m._labelnames for m in all_metrics()}
    every = {label for labels in names.values() for label in labels}
    for told in metrics.LABELS:
        metric, _, label = told.rpartition(" ")
        assert label in (names[metric] if metric else every), told
