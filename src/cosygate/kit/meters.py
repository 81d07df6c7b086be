"""What metrics are made of: those of prometheus-client, bounded, and right over several processes and their restarts
(slots.py).

Of labels a metric has at most MOST combinations; what comes after them is counted under OTHER, so nobody can fill the
memory of this process, or of Prometheus, by being inventive. Imported before any metric is made.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, generate_latest, values
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from cosygate.kit.slots import FOLDER, SLOT

MOST = 1000  # combinations of labels that one metric may have: all routes, methods and answers are fewer
OTHER = "OTHER"

if os.environ.get(FOLDER) and (_slot := os.environ.get(SLOT)):
    values.ValueClass = values.MultiProcessValue(lambda: _slot)  # type: ignore[no-untyped-call]

_T = TypeVar("_T", bound="_Bounded")


class _Bounded(MetricWrapperBase):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._known: dict[tuple[object, ...], Any] = {}

    def labels(self: _T, *labelvalues: object) -> _T:  # type: ignore[override]  # by position alone
        """The series with these labels: the same every time, without asking twice."""
        known: _T | None = self._known.get(labelvalues)
        if known is not None:
            return known
        if len(self._known) >= MOST:
            return super().labels(*(OTHER for _ in labelvalues))
        made = self._known[labelvalues] = super().labels(*labelvalues)
        return made


class Counter(_Bounded, prometheus_client.Counter):
    pass


class Histogram(_Bounded, prometheus_client.Histogram):
    pass


class Gauge(_Bounded, prometheus_client.Gauge):
    """With `livemostrecent` the value that any process set last: by the clock that nobody sets."""

    def set(self, value: float) -> None:
        self._value.set(float(value), timestamp=time.monotonic())


def exposition(folder: str | None = None) -> bytes:
    """All metrics, of all processes that keep theirs in `folder` (None: in that of this one), in the Prometheus text
    format. Takes as long as there are series: tens of milliseconds with eight processes, so not for the event loop."""
    folder = folder or os.environ.get(FOLDER)
    if not folder:
        return generate_latest()
    registry = CollectorRegistry()
    registry.register(_Files(folder))
    return generate_latest(registry)


class _Files(Collector):
    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def collect(self) -> Iterator[Metric]:
        # What a process writes while we read is whole or not there yet, but for a file that has just been made: it has
        # no bytes for a moment, and the merge would fail over it.
        files = [str(path) for path in self._folder.glob("*.db") if _size(path)]
        yield from MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # a process that has just ended
        return 0
